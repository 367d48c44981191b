// What a program does with ioredis: prints what came of it.
const { Redis } = require("ioredis");

async function main() {
  const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
  const told = { pong: await redis.ping() };

  told.automatic = await Promise.all([redis.set("a", 1), redis.incr("a"), redis.get("a")]);
  told.pipeline = await redis.pipeline().lpush("list", 1, 2).lrange("list", 0, -1).lpush("a", 1).exec();
  told.pipeline = told.pipeline.map(([error, value]) => (error ? error.message : value));
  told.multi = await redis.multi().set("b", "1", "EX", 60).ttl("b").exec();

  const other = redis.duplicate();
  await redis.watch("a");
  await other.set("a", "changed");
  told.watched = await redis.multi().set("a", "lost").exec();

  redis.defineCommand("twice", { numberOfKeys: 1, lua: "return {KEYS[1], redis.call('get', KEYS[1]) .. ARGV[1]}" });
  told.script = await redis.twice("a", "!");
  await redis.hset("hash", { one: 1, two: "zwei" });
  told.hash = await redis.hgetall("hash");
  told.buffer = [...(await redis.getBuffer("a"))].length;

  await redis.mset(Object.fromEntries([...Array(500).keys()].map((n) => [`key:${n}`, n])));
  const found = new Set();
  for await (const keys of redis.scanStream({ match: "key:*", count: 50 })) keys.forEach((key) => found.add(key));
  told.scanned = found.size;

  const subscriber = new Redis(process.env.REDIS_URL);
  const heard = new Promise((resolve) => subscriber.on("pmessage", (...message) => resolve(message)));
  await subscriber.psubscribe("news.*");
  await redis.publish("news.today", "hello");
  told.heard = await heard;

  const popped = other.blpop("jobs", 30);
  await redis.rpush("jobs", "job");
  told.popped = await popped;
  await redis.xgroup("CREATE", "stream", "group", "$", "MKSTREAM");
  const read = other.xreadgroup("GROUP", "group", "me", "BLOCK", 30000, "STREAMS", "stream", ">");
  await redis.xadd("stream", "1-1", "field", "value");
  told.read = await read;
  told.error = await redis.get("hash").catch((error) => [error.name, error.message]);

  // The connection is cut: the client connects again, and selects its database.
  await other.select(3);
  const id = await other.client("ID");
  await other.set("in", "three");
  const again = new Promise((resolve) => other.once("ready", resolve));
  await redis.client("KILL", "ID", id);
  await again;
  told.again = await other.get("in");
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
