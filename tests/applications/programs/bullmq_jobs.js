// Jobs of BullMQ. `node bullmq_jobs.js work` is their worker; `add` adds some and says what became of them.
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });

async function run(job) {
  if (job.name === "add") return job.data.a + job.data.b;
  if (job.name === "fail") throw new Error("on purpose");
  if (job.name === "third time") {
    if (job.attemptsMade < 2) throw new Error("not yet");
    return job.attemptsMade;
  }
  if (job.name === "sum") return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
  if (job.name === "note") return connection.rpush("notes", job.data);
  if (job.name === "hang once" && (await connection.rpush("runs", process.pid)) === 1) {
    return new Promise((resolve) => setTimeout(resolve, 600000));
  }
  return "done";
}

async function add() {
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection: connection.duplicate() });
  await events.waitUntilReady();
  const end = (job) => job.waitUntilFinished(events, 60000);
  const told = {};

  await queue.pause();
  for (const priority of [3, 1, 2]) await queue.add("note", `priority ${priority}`, { priority });
  told.waiting = await queue.getJobCounts("prioritized", "paused");
  await queue.resume();

  const many = await queue.addBulk([0, 1, 2].map((n) => ({ name: "add", data: { a: n, b: n } })));
  told.many = await Promise.all(many.map(end));
  await queue.add("add", { a: 1, b: 1 }, { jobId: "one" });
  told.same = await end(await queue.add("add", { a: 5, b: 5 }, { jobId: "one" }));
  told.delayed = await end(await queue.add("add", { a: 1, b: 2 }, { delay: 500 }));
  told.retried = await end(await queue.add("third time", {}, { attempts: 5, backoff: { type: "exponential", delay: 20 } }));
  told.failed = await end(await queue.add("fail", {})).catch((error) => error.message);
  const children = [1, 2, 3].map((n) => ({ name: "add", queueName: "jobs", data: { a: n, b: n } }));
  const flow = await new FlowProducer({ connection }).add({ name: "sum", queueName: "jobs", children });
  told.flow = await end(flow.job);
  await queue.upsertJobScheduler("again", { every: 100 }, { name: "note", data: "again" });
  told.notes = [];
  while (told.notes.filter((note) => note === "again").length < 3) {
    told.notes = await connection.lrange("notes", 0, -1);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await queue.removeJobScheduler("again");
  told.failures = await queue.getFailedCount();
  return told;
}

// A worker that runs writes its keys again at any time, so this is asked when there is none.
async function obliterate() {
  await new Queue("jobs", { connection }).obliterate({ force: true });
  return connection.keys("bull:jobs:*");
}

async function hang() {
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection: connection.duplicate() });
  return (await queue.add("hang once", {})).waitUntilFinished(events, 60000);
}

if (process.argv[2] === "work") {
  new Worker("jobs", run, { connection, concurrency: 2, lockDuration: 1000, stalledInterval: 500 });
} else {
  ({ add, hang, obliterate })[process.argv[2]]().then((told) => {
    console.log(JSON.stringify(told));
    process.exit(0);
  });
}
