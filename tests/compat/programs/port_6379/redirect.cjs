// Leads connections to port 6379 of this machine to the server under test, for suites with that
// address written down in them.
"use strict";

const net = require("node:net");

const run = JSON.parse(process.env.COMPAT_RUN);
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  const options = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (options && typeof options === "object" && Number(options.port) === 6379) {
    options.host = run.host;
    options.port = run.port;
  }
  return connect.apply(this, given);
};
