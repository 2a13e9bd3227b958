"use strict";
// Who computes: workers, each with the network; or, where a site's rules forbid workers, the page itself, a task at a
// time. A task is the name of one of the network's functions and what it is given.

const PATIENCE = 30_000; // milliseconds; a photo takes 50 on a computer: by then the browser has ended the worker

/** What a worker does: it gets the model, and then tasks, whose results it sends. */
function work() {
  let network;
  onmessage = ({ data: { model, task, given } }) => {
    if (model) network = makeNetwork(JSON.parse(model));
    postMessage(model ? "ready" : network[task](...given));
  };
}

/** Give the tasks that wait, the urgent ones first, to those who have none. */
function give({ idle, urgent, patient }) {
  while (idle.length && urgent.length + patient.length) {
    const next = urgent.shift() ?? patient.shift();
    if (next.isWanted()) idle.pop()(next);
    else next.resolve();
  }
}

/** Let the page itself do tasks, and others' work on it between them. */
function workHere(pool, model) {
  let network;
  const start = (next) => {
    setTimeout(() => {
      try {
        network ??= makeNetwork(JSON.parse(model));
        next.resolve(network[next.task](...next.given));
      } catch (error) {
        next.reject(error);
      }
      pool.idle.push(start);
      give(pool);
    });
  };
  pool.idle.push(start);
  give(pool);
}

/** Start a worker that does tasks of the pool; where none may be, or none is left, the page does them. */
function hire(pool, model, scripts) {
  let worker, current, timer, isReady = false;
  const lost = () => {
    worker?.terminate();
    if (current) pool.urgent.unshift(current);
    pool.alive -= 1;
    if (pool.alive || pool.isHere) {
      give(pool);
      return;
    }
    pool.isHere = true;
    workHere(pool, model);
  };
  const send = (message) => {
    timer = setTimeout(lost, PATIENCE);
    worker.postMessage(message);
  };
  const start = (next) => {
    current = next;
    send({ task: next.task, given: next.given });
  };
  const done = () => {
    current = undefined;
    pool.idle.push(start);
    give(pool);
  };
  pool.alive += 1;
  try {
    worker = new Worker(scripts);
  } catch {
    lost();
    return;
  }
  worker.onmessage = ({ data }) => {
    clearTimeout(timer);
    isReady = true;
    current?.resolve(data);
    done();
  };
  worker.onerror = (event) => {
    clearTimeout(timer);
    event.preventDefault();
    if (!isReady) {
      lost();
      return;
    }
    current?.reject(new Error(event.message));
    done();
  };
  send({ model });
}

/** The workers that share tasks. model: the text of the network's; scripts: the address of those that a worker needs. */
function makePool(model, scripts) {
  const pool = { urgent: [], patient: [], idle: [], alive: 0, isHere: false };
  const count = Math.min(3, Math.max(1, navigator.hardwareConcurrency || 2)); // each holds 30 MB
  for (let i = 0; i < count; i++) hire(pool, model, scripts);

  /** What one of the network's functions gives; undefined where, when its turn comes, it is not wanted any more. */
  const run = (task, given, { isUrgent = true, isWanted = () => true } = {}) => {
    return new Promise((resolve, reject) => {
      (isUrgent ? pool.urgent : pool.patient).push({ task, given, isWanted, resolve, reject });
      give(pool);
    });
  };
  return { run };
}
