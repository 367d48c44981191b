// A web server with sessions and rate limits that all its processes have in common.
const express = require("express");
const session = require("express-session");
const { rateLimit } = require("express-rate-limit");
const { RedisStore: SessionStore } = require("connect-redis");
const { RedisStore: LimitStore } = require("rate-limit-redis");
const { createClient } = require("redis");

async function main() {
  const client = await createClient({ url: process.env.REDIS_URL }).connect();
  const app = express();
  app.use(session({ store: new SessionStore({ client }), secret: "secret", resave: false, saveUninitialized: false }));
  const limit = (options) =>
    rateLimit({ windowMs: 600000, limit: 3, store: new LimitStore({ sendCommand: (...words) => client.sendCommand(words) }), ...options });

  app.get("/login/:name", (request, response) => {
    request.session.name = request.params.name;
    response.send("welcome");
  });
  app.get("/name", (request, response) => response.send(request.session.name ?? "nobody"));
  app.get("/logout", (request, response) => request.session.destroy(() => response.send("goodbye")));
  app.get("/limited", limit({ keyGenerator: (request) => request.query.user }), (_, response) => response.send("let in"));
  app.listen(Number(process.argv[2]), "127.0.0.1");
}

main();
