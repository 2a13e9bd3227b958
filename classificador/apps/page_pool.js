"use strict";
// Who computes: workers, each with the network; or, where a site's rules forbid workers, the page itself, a task at a
// time. A task is the name of one of the network's functions and what it is given.

/** What a worker does: it gets the model, and then tasks, whose results it sends. */
function work() {
  let network;
  onmessage = ({ data: { model, task, given } }) => {
    if (model) network = makeNetwork(JSON.parse(model));
    postMessage(model ? "ready" : network[task](...given));
  };
}

/** The workers that share tasks. model: the text of the network's; scripts: those that a worker needs. */
function makePool(model, scripts) {
  const urgent = [], patient = [], idle = []; // tasks that wait; and functions that do one
  let network, alive = 0, isHere = false;

  const give = () => {
    while (idle.length && urgent.length + patient.length) {
      const next = urgent.shift() ?? patient.shift();
      if (next.isWanted()) idle.pop()(next);
      else next.resolve();
    }
  };

  const workHere = () => {
    isHere = true;
    const start = (next) => {
      setTimeout(() => {
        network ??= makeNetwork(JSON.parse(model));
        try {
          next.resolve(network[next.task](...next.given));
        } catch (error) {
          next.reject(error);
        }
        idle.push(start);
        give();
      });
    };
    idle.push(start);
    give();
  };

  const hire = () => {
    const refused = () => {
      alive -= 1;
      if (!alive && !isHere) workHere();
    };
    let worker, current;
    const start = (next) => {
      current = next;
      worker.postMessage({ task: next.task, given: next.given });
    };
    const done = () => {
      current = undefined;
      idle.push(start);
      give();
    };
    alive += 1;
    try {
      worker = new Worker(scripts);
    } catch {
      refused();
      return;
    }
    let isReady = false;
    worker.onmessage = ({ data }) => {
      isReady = true;
      current?.resolve(data);
      done();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (!isReady) refused();
      else {
        current?.reject(new Error(event.message));
        done();
      }
    };
    worker.postMessage({ model });
  };

  const count = Math.min(3, Math.max(1, navigator.hardwareConcurrency || 2)); // each holds 30 MB
  for (let i = 0; i < count; i++) hire();

  /** What one of the network's functions gives; undefined where, when its turn comes, it is not wanted any more. */
  const run = (task, given, { isUrgent = true, isWanted = () => true } = {}) => {
    return new Promise((resolve, reject) => {
      (isUrgent ? urgent : patient).push({ task, given, isWanted, resolve, reject });
      give();
    });
  };
  return { run };
}
