"use strict";
// The page: it takes pictures, one after the other, has them answered, and says how far it is. The last script.

const scripts = ["network", "map"].map((id) => byId(id).textContent);
const forWorkers = new Blob([...scripts, `(${work})()`], { type: "text/javascript" });
const pool = makePool(byId("model").textContent, URL.createObjectURL(forWorkers));
const SLIGHT = 4; // copies of a picture that tell how far an answer moves in a browser that changes it slightly
let queue = Promise.resolve();
let blindness = canvasError();

/** Say something beside the buttons, where everyone sees it and screen readers tell it. */
function say(words) {
  byId("status").textContent = words;
}

/** Whether this browser hides from the page what is in a picture; it is then said, with what helps. */
function isBlind() {
  blindness = canvasError(); // anew: the visitor may have allowed it
  byId("blind").hidden = blindness <= FAR_OFF;
  return blindness > FAR_OFF;
}

/** How far the best class's probability moves when each byte moves by up to so many levels, by chance. */
async function movement(pixels, { probabilities }, levels) {
  const best = ranked(probabilities)[0];
  const moved = Array.from({ length: SLIGHT }, async () => {
    const copy = pixels.map((value) => Math.min(255, Math.max(0, value + Math.round((2 * Math.random() - 1) * levels))));
    return Math.abs((await pool.run("answer", [copy])).probabilities[best] - probabilities[best]);
  });
  return Math.max(...(await Promise.all(moved)));
}

const known = new Map(); // by what the network saw, the name of the picture on a card

/** Answer for a picture, and show it in its card; returns the number of its class. */
async function answer(card, name, source, given) {
  const pixels = given ?? see(source, source.width, source.height, facts);
  const result = await pool.run("answer", [pixels]);
  if (!card.isConnected) return undefined; // cleared
  const notes = [], best = ranked(result.probabilities)[0], key = pixels.join();
  if (result.probabilities[best] < facts.doubt_below) notes.push(facts.doubt);
  if (known.has(key)) notes.push(`A rede já viu esta foto: é igual a ${known.get(key)}.`);
  if (blindness && !given) {
    const points = percent.format(await movement(pixels, result, blindness)).replace("%", "");
    notes.push(`Este navegador muda um pouco a foto que a página lê: a resposta pode variar uns ${points} pontos.`);
  }
  known.set(key, name);
  fillCard(card, { name, source, pixels, probabilities: result.probabilities, notes });
  drawNetwork({ source, pixels, ...result });
  return { best, notes };
}

/** What is said once all pictures had their turn. outcomes: of each, what answer() gave, or nothing. */
function summary(outcomes) {
  const counts = new Map();
  for (const outcome of outcomes.filter(Boolean)) counts.set(outcome.best, (counts.get(outcome.best) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([best, count]) => `\u2068${facts.classes[best]}\u2069 ${count}`);
  const bad = outcomes.filter((outcome) => !outcome).length;
  if (bad) parts.push(`sem resposta ${bad}`);
  return `${outcomes.length} fotos: ${parts.join(", ")}.`;
}

/** Take pictures, each by its name, a function that opens it in its turn, and its pixels where they are known. */
function take(...pictures) {
  if (pictures.some(([, , pixels]) => !pixels) && isBlind()) return;
  const cards = pictures.map(([name]) => {
    const card = make("article", "short", "", make("p", "soft", "", make("bdi", "", name), ": olhando…"));
    card.setAttribute("aria-label", name);
    return card;
  });
  byId("results").prepend(...cards);
  byId("clear").hidden = false;
  say(pictures.length > 1 ? `Olhando ${pictures.length} fotos…` : "Olhando…");
  cards[0].scrollIntoView({ block: "start" });
  const outcomes = [], progress = byId("progress");
  pictures.forEach(([name, get, pixels], i) => {
    queue = queue.then(async () => {
      const card = cards[i];
      if (!card.isConnected) return; // cleared
      let words;
      try {
        const source = await get();
        outcomes[i] = await answer(card, name, source, pixels);
        if (outcomes[i]) words = `é \u2068${facts.classes[outcomes[i].best]}\u2069. ${outcomes[i].notes.join(" ")}`;
      } catch (error) {
        const other = `não pôde ser classificado (${error.message}). Escolha outra imagem.`;
        words = error instanceof Told ? error.message : other;
        outcomes[i] = null;
        card.replaceChildren(make("p", "", "", make("bdi", "", name), ` ${words}`));
      }
      if (!card.isConnected) return;
      progress.textContent = pictures.length > 1 ? `${i + 1} de ${pictures.length}` : "";
      if (pictures.length === 1) say(`\u2068${name}\u2069 ${words}`.trim());
      else if (i === pictures.length - 1) say(summary(outcomes));
    });
  });
}

function takeFiles(files, otherwise) {
  if (files.length) take(...files.map((file) => [file.name, () => openPicture(file)]));
  else say(otherwise);
}

byId("files").onchange = ({ target }) => {
  if (target.files.length) takeFiles([...target.files]);
  target.value = ""; // the same file can be chosen again
};
addEventListener("paste", (event) => takeFiles([...event.clipboardData.files], "Não há foto na área de transferência."));
addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
addEventListener("dragleave", () => byId("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  takeFiles([...event.dataTransfer.files], "Isto não é um arquivo de foto: salve-a antes no aparelho.");
});
byId("clear").onclick = () => {
  byId("results").replaceChildren();
  for (const kept of [known, unseen]) kept.clear();
  sight.disconnect();
  byId("clear").hidden = true;
  byId("progress").textContent = "";
  say("");
  byId("files").focus();
};
addEventListener("beforeunload", (event) => {
  if (byId("results").children.length) event.preventDefault(); // the browser asks
});

/** A canvas with the picture of an example. */
function exampleCanvas({ pixels }) {
  const canvas = make("canvas", "pixels");
  Object.assign(canvas, { width: facts.side, height: facts.side });
  drawPixels(canvas, pixels);
  return canvas;
}

// What the page says of its model.
const chips = facts.classes.map((name, label) => {
  const example = facts.examples.find((candidate) => candidate.label === label);
  if (!example) return make("li", "", "", make("bdi", "chip", name));
  const title = `Exemplo: ${name}`;
  const button = makeButton("", () => take([title, () => exampleCanvas(example), example.pixels]), "chip");
  button.setAttribute("aria-label", title);
  button.append(exampleCanvas(example), make("bdi", "", name));
  return make("li", "", "", button);
});
byId("chips").append(...chips);
byId("knows").textContent = `Só conhece estas ${facts.classes.length} coisas${facts.examples.length ? "; toque em uma" : ""}:`;
byId("origin").textContent = facts.origin;
byId("seen").textContent = facts.learnt ? "As fotos de exemplo são do treino." : "As fotos de exemplo não são do treino.";
byId("seen").hidden = !facts.examples.length;
byId("home").hidden = !facts.home;
if (facts.home) byId("home").querySelector("a").href = facts.home;
document.body.classList.toggle("whole", facts.framing === "inteira");
isBlind();
if (facts.examples.length) {
  const first = facts.examples[0];
  pool.run("answer", [first.pixels]).then((result) => {
    if (!byId("flow").children.length) drawNetwork({ source: exampleCanvas(first), pixels: first.pixels, ...result });
  });
}
byId("app").hidden = false;
byId("asleep").hidden = true; // the last line: all the above has run
