"use strict";
// The page: it takes pictures, one after the other, has them answered, and says how far it is. The last script.

const scripts = ["network", "map"].map((id) => byId(id).textContent);
const forWorkers = new Blob([...scripts, `(${work})()`], { type: "text/javascript" });
const pool = makePool(byId("model").textContent, URL.createObjectURL(forWorkers));
const FIRST = 12; // chips in view when there are more
const COPIES = 4; // copies of a picture that tell how far an answer moves in a browser that changes it slightly
let queue = Promise.resolve();
let blindness = 0; // what canvasError() said last

/** Say something beside the buttons, where everyone sees it and screen readers tell it; more: for these alone. */
function say(words, more = "") {
  byId("status").replaceChildren(words, ...(more ? [make("span", "hidden", ` ${more}`)] : []));
}

/** Whether this browser hides from the page what is in a picture; it is then said, with what helps. */
function isBlind() {
  blindness = canvasError(); // anew: the visitor may have allowed it
  byId("blind").hidden = blindness <= FAR_OFF;
  if (blindness > FAR_OFF) say("Este navegador esconde as imagens da página.");
  return blindness > FAR_OFF;
}

/** How far the best class's probability moves when each byte moves by up to so many levels, by chance. */
async function movement(pixels, { probabilities }, levels) {
  const best = ranked(probabilities)[0];
  const moved = Array.from({ length: COPIES }, async () => {
    const copy = pixels.map((value) => Math.min(255, Math.max(0, value + Math.round((2 * Math.random() - 1) * levels))));
    return Math.abs((await pool.run("predict", [copy]))[best] - probabilities[best]);
  });
  return Math.max(...(await Promise.all(moved)));
}

const known = new Map(); // by what the network saw, the name of the picture on a card

/** Answer for a picture, and show it in its card; returns the number of its class, and what there was to note. */
async function answer(card, name, { source, pixels: given }) {
  const pixels = given ?? see(source, source.width, source.height, facts), photo = photoOf(source);
  source.close?.(); // a phone has no memory for many
  const result = await pool.run("answer", [pixels]);
  const notes = [], best = ranked(result.probabilities)[0], key = pixels.join();
  if (result.probabilities[best] < facts.doubt_below) notes.push(facts.doubt);
  if (blindness && !given) {
    const moved = await movement(pixels, result, blindness), points = percent.format(moved).replace("%", "");
    const words = moved < 0.0005 ? "menos de 0,1 ponto" : `${points} ponto${moved < 0.02 ? "" : "s"} ou mais`;
    notes.push(`Este navegador muda um pouco a foto que a página lê: a resposta pode variar ${words}.`);
  }
  if (!card.isConnected) return undefined; // cleared
  fillCard(card, { name, photo, pixels, probabilities: result.probabilities, notes, twin: known.get(key) });
  if (!known.has(key)) known.set(key, name);
  drawNetwork({ photo, pixels, ...result });
  return { best, notes };
}

let asked = 0, answered = []; // how many cards there are, and what answer() gave for those that had their turn

/** Count what is on the page, above the cards: how far it is, and how many of each class. */
function countUp() {
  const counts = new Map();
  for (const outcome of answered.filter(Boolean)) counts.set(outcome.best, (counts.get(outcome.best) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([best, count]) => `\u2068${facts.classes[best]}\u2069 (${count})`);
  const bad = answered.length - answered.filter(Boolean).length;
  if (bad) parts.push(`sem resposta (${bad})`);
  const total = answered.length < asked ? `${answered.length} de ${asked}` : `${asked} ao todo`;
  byId("tally").textContent = asked > 1 ? `${total}${parts.length ? ": " : ""}${parts.join(", ")}` : "";
}

/** Take pictures, each by its name and a function that opens it in its turn: what to draw, and the pixels if known. */
function take(...pictures) {
  const cards = pictures.map(([name]) => {
    const card = make("article", "short", "", make("p", "soft", "", make("bdi", "", name), ": olhando…"));
    card.setAttribute("aria-label", name);
    return card;
  });
  byId("results").prepend(...cards);
  byId("clear").hidden = false;
  say(pictures.length > 1 ? `Olhando ${pictures.length} fotos…` : "Olhando…");
  cards[0].tabIndex = -1; // the keyboard goes on from here
  cards[0].focus({ preventScroll: true });
  byId("above").scrollIntoView({ block: "start" });
  asked += pictures.length;
  countUp();
  pictures.forEach(([name, get], i) => {
    queue = queue.then(async () => {
      const card = cards[i];
      if (!card.isConnected) return; // cleared
      let words, more, outcome = null;
      try {
        outcome = await answer(card, name, await get());
        if (outcome) [words, more] = [`A rede diz \u2068${facts.classes[outcome.best]}\u2069.`, outcome.notes.join(" ")];
      } catch (error) {
        const other = `não pôde ser classificado (${error.message}). Escolha outra imagem.`;
        const problem = error instanceof Told ? error.message : other;
        words = `\u2068${name}\u2069 ${problem}`;
        card.replaceChildren(make("p", "", "", make("bdi", "", name), ` ${problem}`));
      }
      if (!card.isConnected) return;
      answered.push(outcome);
      countUp();
      if (pictures.length === 1) {
        say(words, more);
        byId("above").scrollIntoView({ block: "start" }); // which what was said may have moved
      } else if (i === pictures.length - 1) say(byId("tally").textContent);
    });
  });
}

function takeFiles(files, otherwise) {
  if (document.querySelector("dialog[open]") || isBlind()) return;
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
  [asked, answered] = [0, []];
  countUp();
  drawFirst();
  say("");
  byId("files").focus();
};
addEventListener("beforeunload", (event) => {
  if (byId("results").children.length) event.preventDefault(); // the browser asks
});

/** A canvas with the picture of an example. */
function exampleCanvas({ pixels }) {
  const canvas = makeCanvas(facts.side, facts.side, "pixels");
  drawPixels(canvas, pixels);
  return canvas;
}

/** Until there is an answer, draw that of an example, where the page has any. */
async function drawFirst() {
  byId("flow").replaceChildren();
  if (!facts.examples.length) return;
  const first = facts.examples[0], result = await pool.run("answer", [first.pixels]);
  if (!byId("flow").children.length) drawNetwork({ photo: exampleCanvas(first), pixels: first.pixels, ...result });
}

// What the page says of its model.
const chips = facts.classes.map((name, label) => {
  const example = facts.examples.find((candidate) => candidate.label === label);
  if (!example) return make("li", "", "", make("bdi", "chip", name));
  const title = `Exemplo: ${name}`;
  const open = () => ({ source: exampleCanvas(example), pixels: example.pixels });
  const button = makeButton("", () => take([title, open]), "chip");
  button.setAttribute("aria-label", title);
  button.append(exampleCanvas(example), make("bdi", "", name));
  return make("li", "", "", button);
});
byId("chips").append(...chips);
const hidden = chips.slice(chips.length > FIRST + 3 ? FIRST : chips.length);
for (const chip of hidden) chip.hidden = true;
if (hidden.length) {
  const all = makeButton(`Ver as outras ${hidden.length}`, () => {
    for (const chip of hidden) chip.hidden = false;
    all.parentElement.remove();
    (hidden[0].querySelector("button") ?? byId("files")).focus();
  }, "small");
  byId("chips").append(make("li", "", "", all));
}
const invitation = facts.examples.length ? " Escolha uma para ver um exemplo:" : "";
byId("knows").textContent = `A rede só conhece estas ${facts.classes.length} coisas.${invitation}`;
byId("warns").hidden = !facts.doubt_below;
byId("origin").textContent = facts.origin;
byId("seen").textContent = facts.learnt ? "As fotos de exemplo são do treino." : "As fotos de exemplo não são do treino.";
byId("seen").hidden = !facts.examples.length;
byId("home").hidden = !facts.home;
if (facts.home) byId("home").querySelector("a").href = facts.home;
document.body.classList.toggle("whole", facts.framing === "inteira");
isBlind();
drawFirst();
byId("app").hidden = false;
// The last line: all the above has run. An animation, for a browser may save the page with its attributes and without its
// scripts, and then the paragraph is to be seen again.
const gone = { visibility: "hidden", position: "absolute" };
byId("asleep").animate([gone, gone], { duration: 1, fill: "forwards" });
