"""The error classes, and every error text that a client can get.

1. `CommandError` is sent to the client, and the session continues. `ProtocolError` is sent, and the connection closes.
2. `LogError`, `PoolError` and `StartError` are one line for the operator, and the program ends.
3. A text that Redis 7 has is the same here, word for word, because client libraries match on it.
4. The code that raises an error fills in the text's `%b` and `%d`.

The module has more than 400 lines because all texts stand in one place.
"""


class CommandError(Exception):
    """A command was refused and changed nothing; sent as `-text`."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class ProtocolError(Exception):
    """The input is not a request; sent as `-ERR Protocol error: text`, then the connection closes."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class LogError(Exception):
    """The log cannot be used; the message names the file, the place, the reason and the remedy."""


class DamagedLog(LogError):
    """The content of the log is damaged; nothing was changed."""


class PoolError(Exception):
    """The instance can no longer be a member of its pool and ends; the message names the reason."""


class StartError(Exception):
    """The server cannot start; the message names the remedy."""


NAMED_BYTES = 128  # of an unknown command's name in an error text, as in Redis
QUOTED_BYTES = 1 << 14  # of any other word; Redis quotes all of it, which takes long for a word of megabytes

# arguments
SYNTAX = b"ERR syntax error"
NOT_AN_INTEGER = b"ERR value is not an integer or out of range"
NOT_A_FLOAT = b"ERR value is not a valid float"
TOO_MANY_WORDS = b"ERR '%b' takes at most %d words"
NUMKEYS_NOT_POSITIVE = b"ERR numkeys should be greater than 0"
COUNT_NOT_POSITIVE = b"ERR count should be greater than 0"
WRONG_ARITY = b"ERR wrong number of arguments for '%b' command"
UNKNOWN_COMMAND = b"ERR unknown command '%b', with args beginning with: %b"
UNKNOWN_SUBCOMMAND = b"ERR unknown subcommand '%b'. Try %b HELP."
INTERNAL = b"ERR internal error"
NO_MEMORY = b"ERR not enough memory for this command"
QUERY_TOO_BIG = b"too big query buffer"

# client-side caching
REDIRECT_TWICE = b"ERR A client can only redirect to a single other client"
REDIRECT_UNKNOWN = b"ERR The client ID you want redirect to does not exist"
TRACKING_PREFIX_WITHOUT_BCAST = b"ERR PREFIX option requires BCAST mode to be enabled"
TRACKING_SWITCHES_BCAST = (
    b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a "
    b"different mode."
)
TRACKING_BCAST_AND_OPT = b"ERR OPTIN and OPTOUT are not compatible with BCAST"
TRACKING_OPTIN_AND_OPTOUT = b"ERR You can't specify both OPTIN mode and OPTOUT mode"
TRACKING_SWITCHES_OPT = (
    b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a "
    b"different mode."
)
TRACKING_PREFIX_EXISTS = (
    b"ERR Prefix '%b' overlaps with an existing prefix '%b'. Prefixes for a single client must not overlap."
)
TRACKING_PREFIX_TWICE = (
    b"ERR Prefix '%b' overlaps with another provided prefix '%b'. Prefixes for a single client must not overlap."
)
CACHING_WITHOUT_TRACKING = (
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
CACHING_WITHOUT_OPTIN = b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
CACHING_WITHOUT_OPTOUT = b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."

# values
WRONG_TYPE = b"WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY = b"ERR no such key"
OVERFLOW = b"ERR increment or decrement would overflow"
NAN_OR_INFINITY = b"ERR increment would produce NaN or Infinity"
STRING_TOO_LONG = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE = b"ERR offset is out of range"
INVALID_EXPIRE = b"ERR invalid expire time in '%b' command"
DECREMENT_OVERFLOW = b"ERR decrement would overflow"
INVALID_NUMKEYS = b"ERR invalid numkeys value"
WRONG_PAIRS = b"ERR wrong number of key-value pairs"
DELEX_CONDITION = b"ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"
DELEX_NOT_A_STRING = b"ERR Key should be of string type if conditions are specified"
DIGEST_LENGTH = b"ERR digest must be exactly 16 hexadecimal characters"
LCS_NOT_STRINGS = b"ERR The specified keys must contain string values"
LCS_LENGTH_AND_RANGES = b"ERR If you want both the length and indexes, please just use IDX."
LCS_TOO_LARGE = b"ERR LCS takes strings of at most %d bytes, and of %d multiplied by each other"

# bitmaps
BIT_OFFSET = b"ERR bit offset is not an integer or out of range"
NOT_A_BIT = b"ERR bit is not an integer or out of range"
BIT_NOT_0_OR_1 = b"ERR The bit argument must be 1 or 0."
BITOP_TWO_SOURCES = b"ERR BITOP %b must be called with at least two source keys."
BITOP_NOT = b"ERR BITOP NOT must be called with a single source key."
BITFIELD_TYPE = b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
OVERFLOW_TYPE = b"ERR Invalid OVERFLOW type specified"
BITFIELD_READ_ONLY = b"ERR BITFIELD_RO only supports the GET subcommand"

# sorted sets
INVALID_SCORE_RANGE = b"ERR min or max is not a float"
INVALID_LEX_RANGE = b"ERR min or max not valid string range item"
SCORE_NAN = b"ERR resulting score is not a number (NaN)"
ZADD_XX_AND_NX = b"ERR XX and NX options at the same time are not compatible"
ZADD_GT_LT_AND_NX = b"ERR GT, LT, and/or NX options at the same time are not compatible"
ZADD_INCR_ONE = b"ERR INCR option supports a single increment-element pair"
RANGE_LIMIT = b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
RANGE_WITHSCORES = b"ERR syntax error, WITHSCORES not supported in combination with BYLEX"
NO_INPUT_KEYS = b"ERR at least 1 input key is needed for '%b' command"
INVALID_WEIGHT = b"ERR weight value is not a float"

# positions
GEO_POSITION = b"ERR invalid longitude,latitude pair %f,%f"
GEO_UNIT = b"ERR unsupported unit provided. please use M, KM, FT, MI"
GEO_NOT_NUMERIC = b"ERR need numeric %b"
GEO_RADIUS_NEGATIVE = b"ERR radius cannot be negative"
GEO_BOX_NEGATIVE = b"ERR height or width cannot be negative"
GEO_NO_MEMBER = b"ERR could not decode requested zset member"
GEO_COUNT = b"ERR COUNT must be > 0"
GEO_ANY_WITHOUT_COUNT = b"ERR the ANY argument requires COUNT argument"
GEO_STORE_OPTIONS = b"ERR %b is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
GEO_ONE_CENTER = b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %b"
GEO_ONE_AREA = b"ERR exactly one of BYRADIUS and BYBOX can be specified for %b"

# HyperLogLogs
NO_HYPERLOGLOG = b"WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPT_HYPERLOGLOG = b"INVALIDOBJ Corrupted HLL object detected"

# keys
SAME_OBJECT = b"ERR source and destination objects are the same"
UNSUPPORTED_OPTION = b"ERR Unsupported option %b"
NX_AND_OTHERS = b"ERR NX and XX, GT or LT options at the same time are not compatible"
GT_AND_LT = b"ERR GT and LT options at the same time are not compatible"
INVALID_CURSOR = b"ERR invalid cursor"
INVALID_FIRST_DB = b"ERR invalid first DB index"
INVALID_SECOND_DB = b"ERR invalid second DB index"
NO_LFU = (
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
    b"between policies at runtime LRU and LFU data will take some time to adjust."
)
NO_LRU = (
    b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies "
    b"at runtime LRU and LFU data will take some time to adjust."
)
PATTERN_TOO_LONG = b"ERR pattern is too long"

# hashes
HASH_NOT_AN_INTEGER = b"ERR hash value is not an integer"
HASH_NOT_A_FLOAT = b"ERR hash value is not a float"
IS_NAN_OR_INFINITY = b"ERR value is NaN or Infinity"
OUT_OF_RANGE = b"ERR value is out of range"
NO_FIELDS_WORD = b"ERR Mandatory argument FIELDS is missing or not at the right position"
NUMFIELDS_NOT_POSITIVE = b"ERR Parameter `numFields` should be greater than 0"
FIELDS_NOT_POSITIVE = b"ERR Number of fields must be a positive integer"
FIELDS_INVALID = b"ERR invalid number of fields"
NUMFIELDS_DIFFERS = b"ERR The `numfields` parameter must match the number of arguments"
EXPIRE_NEGATIVE = b"ERR invalid expire time, must be >= 0"
UNKNOWN_ARGUMENT = b"ERR unknown argument: %b"
EXPIRE_MISSING = b"ERR missing expire time"
ONE_CONDITION = b"ERR Only one of FXX or FNX arguments can be specified"
ONE_EXPIRY = b"ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"

# sets
COUNT_NEGATIVE = b"ERR value is out of range, must be positive"
COUNT_OUT_OF_RANGE = b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
TOO_MANY_REPEATED = b"ERR a negative count is at least -%d"
NUMKEYS_TOO_LARGE = b"ERR Number of keys can't be greater than number of args"
LIMIT_NEGATIVE = b"ERR LIMIT can't be negative"

# lists
NOT_SORTABLE = b"ERR One or more scores can't be converted into double"
INDEX_OUT_OF_RANGE = b"ERR index out of range"
LPOS_RANK_ZERO = (
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from "
    b"the end of the list"
)
LPOS_RANK_OUT_OF_RANGE = b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
LPOS_COUNT_NEGATIVE = b"ERR COUNT can't be negative"
LPOS_MAXLEN_NEGATIVE = b"ERR MAXLEN can't be negative"

# streams
INVALID_STREAM_ID = b"ERR Invalid stream ID specified as stream command argument"
MAXLEN_AND_MINID = b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
MAXLEN_NEGATIVE = b"ERR The MAXLEN argument must be >= 0."
TRIM_LIMIT_NEGATIVE = b"ERR The LIMIT argument must be >= 0."
LIMIT_WITHOUT_STRATEGY = b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
NO_STRATEGY = b"ERR syntax error, XTRIM must be called with a trimming strategy"
LIMIT_WITHOUT_TILDE = b"ERR syntax error, LIMIT cannot be used without the special ~ option"
NUMIDS_NOT_POSITIVE = b"ERR Number of IDs must be a positive integer"
NUMIDS_DIFFERS = b"ERR The `numids` parameter must match the number of arguments"
STREAM_ID_ZERO = b"ERR The ID specified in XADD must be greater than 0-0"
STREAM_EXHAUSTED = b"ERR The stream has exhausted the last possible ID, unable to add more items"
STREAM_ID_TOO_SMALL = b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
RANGE_START_INVALID = b"ERR invalid start ID for the interval"
RANGE_END_INVALID = b"ERR invalid end ID for the interval"
UNBALANCED_STREAMS = b"ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
CLAIM_NOT_AN_INTEGER = b"ERR min-idle-time is not an integer or out of range"
CLAIM_NEGATIVE = b"ERR min-idle-time must be a positive integer"
ONLY_XREADGROUP = b"ERR The %b option is only supported by XREADGROUP. You called XREAD instead."
GROUP_MISSING = b"ERR Missing GROUP option for XREADGROUP"
DOLLAR_IN_XREADGROUP = (
    b"ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
    b"specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
)
NEW_IN_XREAD = b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
NO_GROUP = b"NOGROUP No such key '%b' or consumer group '%b'"
NO_GROUP_TO_READ = b"NOGROUP No such key '%b' or consumer group '%b' in XREADGROUP with GROUP option"
NO_GROUP_OF_STREAM = b"NOGROUP No such consumer group '%b' for key name '%b'"
GROUP_EXISTS = b"BUSYGROUP Consumer Group name already exists"
NO_STREAM_FOR_GROUP = (
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM "
    b"option to create an empty stream automatically."
)
ENTRIES_READ_INVALID = b"ERR value for ENTRIESREAD must be positive or -1"
ENTRIES_ADDED_NEGATIVE = b"ERR entries_added must be positive"
XSETID_BELOW_DELETED = b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
XSETID_BELOW_TOP = b"ERR The ID specified in XSETID is smaller than the target stream top item"
XSETID_BELOW_LENGTH = b"ERR The entries_added specified in XSETID is smaller than the target stream length"
INVALID_CLAIM_ARGUMENT = b"ERR Invalid %b argument for %b"
UNKNOWN_CLAIM_OPTION = b"ERR Unrecognized XCLAIM option '%b'"
STREAM_COUNT_NOT_POSITIVE = b"ERR COUNT must be > 0"

# DUMP and RESTORE
BUSY_KEY = b"BUSYKEY Target key name already exists."
WRONG_PAYLOAD = b"ERR DUMP payload version or checksum are wrong"
BAD_DATA_FORMAT = b"ERR Bad data format"
INVALID_TTL = b"ERR Invalid TTL value, must be >= 0"
INVALID_IDLE_TIME = b"ERR Invalid IDLETIME value, must be >= 0"
INVALID_FREQUENCY = b"ERR Invalid FREQ value, must be >= 0 and <= 255"

# connection
WRONG_PASSWORD = b"WRONGPASS invalid username-password pair or user is disabled."
AUTH_WITHOUT_PASSWORD = (
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
INVALID_PROTOCOL = b"ERR Protocol version is not an integer or out of range"
NOPROTO = b"NOPROTO unsupported protocol version"
HELLO_OPTION = b"ERR Syntax error in HELLO option '%b'"
HELLO_UNAUTHENTICATED = (
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
    b"option can be used to authenticate the client and select the RESP protocol version at the same time"
)
DB_OUT_OF_RANGE = b"ERR DB index is out of range"
NOT_AN_INT = b"ERR value is out of range, value must between -2147483648 and 2147483647"

# CLIENT
CLIENT_NAME_TOO_LONG = b"ERR Names of clients and libraries have at most 1024 bytes"
INVALID_CLIENT_NAME = b"ERR Client names cannot contain spaces, newlines or special characters."
INVALID_CLIENT_INFO = b"ERR %b cannot contain spaces, newlines or special characters."
UNKNOWN_CLIENT_INFO = b"ERR Unrecognized option '%b'"
NO_SUCH_CLIENT = b"ERR No such client"
UNKNOWN_CLIENT_TYPE = b"ERR Unknown client type '%b'"
INVALID_CLIENT_ID = b"ERR Invalid client ID"
MAXAGE_NOT_AN_INTEGER = b"ERR maxage is not an integer or out of range"
MAXAGE_NOT_POSITIVE = b"ERR maxage should be greater than 0"
CLIENT_ID_TOO_SMALL = b"ERR client-id should be greater than 0"
NO_SUCH_USER = b"ERR No such user '%b'"
INVALID_TIMEOUT = b"ERR timeout is not an integer or out of range"
NEGATIVE_TIMEOUT = b"ERR timeout is negative"
INVALID_PAUSE_MODE = b"ERR CLIENT PAUSE mode must be WRITE or ALL"

# commands that wait
TIMEOUT_NOT_A_FLOAT = b"ERR timeout is not a float or out of range"
TIMEOUT_NOT_AN_INTEGER = b"ERR timeout is not an integer or out of range"
TIMEOUT_NEGATIVE = b"ERR timeout is negative"
TIMEOUT_OUT_OF_RANGE = b"ERR timeout is out of range"
NUMLOCAL_OUT_OF_RANGE = b"ERR value is out of range, value must between 0 and 1"
WAITAOF_WITHOUT_LOG = b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
UNBLOCK_REASON = b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
UNBLOCKED = b"UNBLOCKED client unblocked via CLIENT UNBLOCK"

# publish and subscribe
ONLY_SUBSCRIBE = (
    b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)

# transactions
NESTED_MULTI = b"ERR MULTI calls can not be nested"
EXEC_WITHOUT_MULTI = b"ERR EXEC without MULTI"
DISCARD_WITHOUT_MULTI = b"ERR DISCARD without MULTI"
WATCH_IN_MULTI = b"ERR WATCH inside MULTI is not allowed"
EXEC_ABORTED = b"EXECABORT Transaction discarded because of previous errors."
EXEC_ABANDONED = b"EXECABORT Transaction discarded because the server ends amid one of its scripts"
EXEC_REFUSED = b"EXECABORT Transaction discarded because of: %b"
NOT_IN_TRANSACTION = b"ERR Command not allowed inside a transaction"
TOO_MANY_WATCHED = b"ERR a client watches at most 65536 keys"
TRANSACTION_TOO_LARGE = b"ERR the queued requests take more than client-query-buffer-limit"

# scripts
NO_LUA = b"ERR Scripts need the Python package lupa, which is not installed: pip install -r requirements.txt"
NO_SCRIPT = b"NOSCRIPT No matching script. Please use EVAL."
NUMKEYS_NEGATIVE = b"ERR Number of keys can't be negative"
SCRIPT_NOT_COMPILED = b"ERR Error compiling script (new function): %b"
SCRIPT_ERROR = b"%b script: %b, on %b:%d."
SCRIPT_UNKNOWN_COMMAND = b"ERR Unknown Redis command called from script"
SCRIPT_ARITY = b"ERR Wrong number of args calling Redis command from script"
SCRIPT_COMMAND_REFUSED = b"ERR This Redis command is not allowed from script"
SCRIPT_BLOCKS = b"ERR %b command is not allowed with BLOCK option from scripts"
SCRIPT_IS_READ_ONLY = b"ERR Write commands are not allowed from read-only scripts."
SCRIPT_DENIED = {  # by the reason
    "command": b"ERR The user executing the script can't run this command or subcommand",
    "key": b"ERR The user executing the script can't access at least one of the keys mentioned in the command "
    b"arguments",
    "channel": b"ERR The user executing the script can't publish to the channel mentioned in the command",
}
SCRIPT_NO_ARGUMENTS = b"ERR Please specify at least one argument for this redis lib call"
SCRIPT_ARGUMENTS = b"ERR Lua redis lib command arguments must be strings or integers"
SCRIPT_UNKNOWN_TO_CHECK = b"Invalid command passed to redis.acl_check_cmd()"
SCRIPT_MEMORY = b"ERR not enough memory for this script"
SCRIPT_KILLED = b"ERR Script killed by user with SCRIPT KILL."
SCRIPT_ENDED = b"ERR The script has ended"
SCRIPT_TOO_LONG = b"ERR a script in a pool ends after a billion instructions"
SCRIPT_FLUSH_OPTION = b"ERR SCRIPT FLUSH only support SYNC|ASYNC option"
SCRIPT_DEBUG_REFUSED = b"ERR there is no debugger of scripts"
SCRIPT_CANNOT_BE_KILLED = (
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script "
    b"termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)
NO_SCRIPT_RUNS = b"NOTBUSY No scripts in execution right now."
BUSY = b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
OUT_OF_MEMORY_FOR_SCRIPT = b"OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
SHEBANG_UNFINISHED = b"ERR Invalid script shebang"
SHEBANG_ENGINE = b"ERR Unexpected engine in script shebang: %b"
SHEBANG_OPTION = b"ERR Unknown lua shebang option: %b"
SHEBANG_FLAG = b"ERR Unexpected flag in script shebang: %b"

# functions
BUSY_FUNCTION = b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
LIBRARY_METADATA_MISSING = b"ERR Missing library metadata"
LIBRARY_METADATA_INVALID = b"ERR Invalid library metadata"
LIBRARY_OPTION = b"ERR Invalid metadata value given: %b"
LIBRARY_NAME_REPEATED = b"ERR Invalid metadata value, name argument was given multiple times"
LIBRARY_NAME_MISSING = b"ERR Library name was not given"
LIBRARY_NAME_INVALID = (
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)
LIBRARY_EXISTS = b"ERR Library %b already exists"
LIBRARY_NOT_FOUND = b"ERR Library not found"
LIBRARY_WITHOUT_FUNCTIONS = b"ERR No functions registered"
LIBRARY_PATTERN_MISSING = b"ERR library name argument was not given"
FUNCTION_ENGINE = b"ERR Engine '%b' not found"
FUNCTION_EXISTS = b"ERR Function %b already exists"
FUNCTION_NOT_COMPILED = b"ERR Error compiling function: %b"
FUNCTION_NOT_REGISTERED = b"ERR Error registering functions: %b"
FUNCTION_LOAD_TIMEOUT = b"ERR FUNCTION LOAD timeout"
FUNCTION_LOAD_OPTION = b"ERR Unknown option given: %b"
FUNCTION_LIST_ARGUMENT = b"ERR Unknown argument %b"
FUNCTION_FLUSH_OPTION = b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
FUNCTION_RESTORE_OPTION = b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
FUNCTION_NOT_FOUND = b"ERR Function not found"
FUNCTION_WRITES = b"ERR Can not execute a script with write flag using *_ro command."
PAYLOAD_WITHOUT_FUNCTION = b"ERR given type is not a function"
NUMKEYS_BAD = b"ERR Bad number of keys provided"

# refused commands
NO_REPLICATION = b"ERR %b is not supported: Godis has no replication and no RDB snapshots"

NO_CLUSTER = b"ERR This instance has cluster support disabled"
NO_FAILOVER = b"ERR No failover in progress."
NO_REPLICAS = b"ERR FAILOVER requires connected replicas."
NO_MODULES = (
    b'ERR MODULE command not allowed. If the enable-module-command option is set to "local", you can run it from a '
    b"local connection, otherwise you need to set this option in the configuration file, and then restart the server."
)

# MONITOR, SLOWLOG, LATENCY
MONITOR_ASKS_FOR_KEYS = b"ERR Replica can't interact with the keyspace"
MONITOR_IN_TRANSACTION = b"ERR MONITOR isn't allowed for DENY BLOCKING client"
SLOWLOG_COUNT = b"ERR count should be greater than or equal to -1"
NO_LATENCY_SAMPLES = b"ERR No samples available for event '%b'"

# text dialect
UNBALANCED_QUOTES = b"ERR unbalanced quotes: a word in quotes ends with the same quote, and a space follows it"
QUOTES_HINT = b' (a value with spaces needs quotes: "hello world")'
TEXT_NO_VALUE = b"ERR value not found or expired"
TEXT_NO_KEY = b"ERR key not found"

# server
NO_AUTH = b"NOAUTH Authentication required."
READ_ONLY = b"READONLY You can't write against a read only replica."
LOG_FAILED = b"MISCONF Errors writing to the AOF file: %b"
OUT_OF_MEMORY = b"OOM command not allowed when used memory > 'maxmemory'."
UNKNOWN_SETTING = b"ERR Unknown option or number of arguments for CONFIG SET - '%b'"
SETTING_REFUSED = b"ERR CONFIG SET failed (possibly related to argument '%b') - %b"
TOO_FEW_DESCRIPTORS = b"The operating system is not able to handle the specified number of clients, try with %d"
TLS_REFUSED = b"Unable to update TLS configuration. Check server logs."
NO_CONFIG_FILE = b"ERR The server is running without a config file"
REWRITING = b"ERR Background append only file rewriting already in progress"
NO_LOG_TO_SAVE = b"ERR There is no append only file to save: the server runs without a log (--no-log)"
NO_LOG = b"ERR There is no append only file to rewrite: the server runs without a log (--no-log)"
LOG_IN_POOL = b"ERR There is no append only file to rewrite: the log is the pool's, whose snapshots keep it short"
NO_SHUTDOWN = b"ERR No shutdown in progress."
SHUTDOWN_REFUSED = b"ERR Errors trying to SHUTDOWN. Check logs."
SLEEP_TOO_LONG = b"ERR timeout is out of range"
DEBUG_REFUSED = (
    b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a '
    b"local connection, otherwise you need to set this option in the configuration file, and then restart the server."
)
TEST_COMMANDS_OFF = b"ERR DEBUG CLOCK and DEBUG STATE are for tests: start the server with --embedded --test-commands"
STATE_EXISTS = b"ERR there is a state '%b' already"
NO_SUCH_STATE = b"ERR there is no state '%b'"
UNKNOWN_OR_WRONG_SUBCOMMAND = b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
NO_KEY_ARGUMENTS = b"ERR The command has no key arguments"
INVALID_COMMAND = b"ERR Invalid command specified"
INVALID_ARGUMENTS = b"ERR Invalid arguments specified for command"
INVALID_COMMAND_ARITY = b"ERR Invalid number of arguments specified for command"
NOT_PERMITTED = {  # by the reason
    "command": b"this user has no permissions to run the '%b' command",
    "key": b"this user has no permissions to access one of the keys used as arguments",
    "channel": b"this user has no permissions to access one of the channels used as arguments",
}
WOULD_BE_DENIED = {
    "command": b"This user has no permissions to run the '%b' command",
    "key": b"This user has no permissions to access the '%b' key",
    "channel": b"This user has no permissions to access the '%b' channel",
}
SORT_PATTERN_DENIED = b"ERR %b option of SORT denied due to insufficient ACL permissions."
USER_CANNOT_BE_SAVED = b"ERR a file of users cannot hold a user with this name or these rules"
UNKNOWN_CATEGORY = b"ERR Unknown category '%b'"
DEFAULT_USER_STAYS = b"ERR The 'default' user cannot be removed"
BAD_USER_NAME = b"ERR Usernames can't contain spaces or null characters"
RULE_REFUSED = b"ERR Error in ACL SETUSER modifier '%b': %b"
UNMATCHED_PARENTHESIS = b"ERR Unmatched parenthesis in acl selector starting at '%b'."
RULE_SYNTAX = b"Syntax error"
RULE_UNKNOWN_COMMAND = b"Unknown command or category name in ACL"
RULE_OF_SUBCOMMAND = b"Allowing first-arg of a subcommand is not supported"
RULE_NO_PASSWORD = b"The password you are trying to remove from the user does not exist"
RULE_BAD_HASH = b"The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
RULE_AFTER_ALL_KEYS = (
    b"Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
    b"Try 'resetkeys' to start with an empty list of patterns"
)
RULE_AFTER_ALL_CHANNELS = (
    b"Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. "
    b"Try 'resetchannels' to start with an empty list of channels"
)
GENPASS_BITS = (
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
)
ACL_NO_SUCH_USER = b"ERR User '%b' not found"
NO_SUCH_COMMAND = b"ERR Command '%b' not found"
NO_ACL_FILE = (
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    b"command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store "
    b"users in the Redis configuration."
)
ACL_FILE_REFUSED = b"ERR %b WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
ACL_NOT_SAVED = b"ERR There was an error trying to save the ACLs. Please check the server logs for more information"
POOL_DOWN = b"POOLDOWN cannot reach the log (etcd), write refused"
POOL_UNKNOWN = b"POOLUNKNOWN no confirmation in 10 s; the write may still be applied"
POOL_STALE = b"POOLSTALE cannot reach the log (etcd), so what this instance has may be out of date"
POOL_CLOCK = b"POOLCLOCK this instance's clock is too far ahead of etcd's: by it, keys would end early"
POOL_FULL = b"POOLFULL the log (etcd) has no space left, write refused"
POOL_TOO_LARGE = b"ERR a write of %d bytes is larger than the pool's log takes (%d)"
POOL_VALUE_TOO_LARGE = b"ERR a value of %d bytes is larger than a pool takes (%d)"
POOL_ENTRY_REFUSED = b"ERR the pool's log (etcd) refused the write: %b"
NO_POOL = b"ERR This instance is not a member of a pool (--pool)"
UNKNOWN_READ_MODE = b"ERR READMODE takes LOCAL or LINEARIZABLE"
MAX_CLIENTS = b"ERR max number of clients reached"
DENIED = (
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. If you want to connect "
    b"from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode "
    b"sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the "
    b"same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. "
    b"2) Start the server with --protected-mode no. 3) Set a password with --requirepass for the default user. "
    b"NOTE: You only need to do one of the above things in order for the server to start accepting connections from "
    b"the outside."
)
