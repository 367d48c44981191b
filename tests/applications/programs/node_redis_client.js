// What a program does with node-redis, by the RESP that argv names: prints what came of it.
const { createClient, createClientPool, defineScript, WatchError } = require("redis");

async function main() {
  const RESP = Number(process.argv[2]);
  const scripts = {
    add: defineScript({
      SCRIPT: "return redis.call('incrby', KEYS[1], ARGV[1])",
      NUMBER_OF_KEYS: 1,
      parseCommand: (parser, key, number) => (parser.pushKey(key), parser.push(String(number))),
      transformReply: (reply) => reply,
    }),
  };
  const options = { url: process.env.REDIS_URL, RESP, scripts };
  const client = await createClient(options).connect();
  const other = await client.duplicate().connect();
  const told = { pong: await client.ping() };

  told.pipelined = await Promise.all([client.set("a", "1"), client.incr("a"), client.get("a")]);
  told.multi = await client.multi().set("b", "1", { EX: 60 }).ttl("b").exec();
  await client.watch("a");
  await other.set("a", "5");
  told.watched = await client.multi().set("a", "lost").exec().catch((error) => error instanceof WatchError);
  told.script = await client.add("a", 7);

  await client.hSet("hash", { one: "1", two: "zwei" });
  told.hash = await client.hGetAll("hash");
  await client.zAdd("scores", [{ score: 1.5, value: "one" }, { score: 2, value: "two" }]);
  told.scores = await client.zRangeWithScores("scores", 0, -1);
  await client.mSet(Object.fromEntries([...Array(500).keys()].map((n) => [`key:${n}`, String(n)])));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "key:*", COUNT: 50 })) keys.forEach((key) => found.add(key));
  told.scanned = found.size;

  const subscriber = await client.duplicate().connect();
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  await subscriber.pSubscribe("news.*", (message, channel) => hear([channel, message]));
  await client.publish("news.today", "hello");
  told.heard = await heard;

  const popped = other.blPop("jobs", 30);
  await client.rPush("jobs", "job");
  told.popped = await popped;
  await client.xGroupCreate("stream", "group", "$", { MKSTREAM: true });
  const read = other.xReadGroup("group", "me", { key: "stream", id: ">" }, { BLOCK: 30000 });
  await client.xAdd("stream", "1-1", { field: "value" });
  told.read = await read;

  const pool = await createClientPool(options, { maximum: 3 }).connect();
  told.pool = (await Promise.all([1, 1, 1, 1].map((n) => pool.add("pooled", n)))).sort();
  told.error = await client.get("hash").catch((error) => error.message);

  if (RESP === 3) {
    const clientSideCache = { ttl: 0, maxEntries: 100, evictPolicy: "LRU" };
    const cached = await createClient({ ...options, clientSideCache }).connect();
    const calls = async () => (await client.info("commandstats")).match(/cmdstat_get:calls=(\d+)/)[1];
    const before = [await cached.get("a"), await calls()];
    told.cached = [before[0], await cached.get("a"), await cached.get("a")];
    told.asked = before[1] !== (await calls());
    await client.set("a", "new");
    while (told.cached[2] !== "new") {
      await new Promise(setImmediate);
      told.cached[2] = await cached.get("a");
    }
  }
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
