"""The fields of INFO that monitoring tools read, by tool.

Those of replicas, sentinels, clusters, of other servers (KeyDB, Tile38, Azure) and of a server that loads are left out:
no Redis that runs alone has them either.
"""

from __future__ import annotations

TEXTS = {
    *("redis_version", "redis_mode", "os", "role", "maxmemory_policy", "run_id", "master_replid", "mem_allocator"),
    *("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status"),
}
MEMORY = """
    used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_overhead used_memory_startup
    used_memory_dataset used_memory_scripts maxmemory mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_slaves
    mem_clients_normal mem_not_counted_for_evict lazyfree_pending_objects active_defrag_running allocator_active
    allocator_allocated allocator_resident allocator_frag_ratio allocator_frag_bytes allocator_rss_ratio
    allocator_rss_bytes total_system_memory
"""
PERSISTENCE = """
    loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_time_sec
    rdb_current_bgsave_time_sec rdb_last_cow_size aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled
    aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_cow_size module_fork_in_progress
    module_fork_last_cow_size
"""
LOG = "aof_current_size aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync"
REPLICATION = """
    connected_slaves master_repl_offset second_repl_offset repl_backlog_active repl_backlog_size
    repl_backlog_first_byte_offset repl_backlog_histlen sync_full sync_partial_ok sync_partial_err
    slave_expires_tracked_keys
"""
STATS = """
    total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
    total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections expired_keys
    evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns latest_fork_usec migrate_cached_sockets
    expired_stale_perc expired_time_cap_reached_count active_defrag_hits active_defrag_misses active_defrag_key_hits
    active_defrag_key_misses
"""
CPU = "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children"
CLIENTS = "connected_clients blocked_clients client_recent_max_input_buffer client_recent_max_output_buffer"
COMMON = f"{CLIENTS} {MEMORY} {PERSISTENCE} {REPLICATION} {STATS} {CPU} uptime_in_seconds cluster_enabled"

FIELDS = {
    "redis_exporter": f"{COMMON} {LOG} process_id tracking_clients",
    "collectd": """
        uptime_in_seconds connected_clients blocked_clients used_memory used_memory_lua rdb_changes_since_last_save
        total_connections_received total_commands_processed instantaneous_ops_per_sec expired_keys evicted_keys
        pubsub_channels pubsub_patterns connected_slaves keyspace_hits keyspace_misses total_net_input_bytes
        total_net_output_bytes
    """,
    "telegraf": f"""{COMMON} lru_clock clients_in_timeout_table io_threaded_reads_processed mem_aof_buffer
        io_threaded_writes_processed mem_replication_backlog number_of_cached_scripts rss_overhead_bytes
        rss_overhead_ratio tracking_clients tracking_total_items tracking_total_keys tracking_total_prefixes
        unexpected_error_replies used_memory_dataset_perc used_memory_peak_perc
    """,
    "datadog": f"""{COMMON} {LOG} io_threads_active mem_total_replication_buffers used_memory_vm_eval
        used_memory_vm_functions used_memory_vm_total used_memory_functions used_memory_scripts_eval
        total_net_repl_input_bytes total_net_repl_output_bytes evicted_clients pubsubshard_channels cluster_connections
        total_error_replies current_active_defrag_time total_active_defrag_time current_eviction_exceeded_time
        total_eviction_exceeded_time current_cow_peak current_cow_size current_cow_size_age total_forks rdb_saves
        rdb_last_load_keys_expired rdb_last_load_keys_loaded instantaneous_input_repl_kbps number_of_functions
        instantaneous_output_repl_kbps number_of_libraries mem_cluster_links
        client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections
    """,
    "zabbix": f"{COMMON} {LOG} process_id tcp_port current_fork_perc",
}
