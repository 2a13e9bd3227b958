"use strict";
// What is shown of an answer: a card of its own, with the class, bars, and the picture as the network sees it.

const percent = new Intl.NumberFormat("pt-BR", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A new element with a class, a text (never markup), and what goes into it. */
function make(tag, className = "", text = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

/** A canvas of a size. */
function makeCanvas(width, height, className = "") {
  return Object.assign(make("canvas", className), { width, height });
}

/** A button with a text and what it does. */
function makeButton(text, act, className = "") {
  const button = make("button", className, text);
  button.type = "button";
  button.onclick = act;
  return button;
}

/** A probability in words: of a network none is certain, and none impossible. */
function shareOf(probability) {
  if (probability >= 0.9995) return "mais de 99,9%";
  return probability < 0.0005 ? "menos de 0,1%" : percent.format(probability);
}

/** The numbers of the classes, the likeliest first. */
function ranked(probabilities) {
  return probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
}

/** A bar for each of these classes, in a list. */
function fillBars(list, probabilities, classes) {
  const bars = classes.map((i) => {
    const bar = make("li", "", "", make("bdi", "", facts.classes[i]), make("span", "", shareOf(probabilities[i])));
    bar.style.setProperty("--share", `${100 * probabilities[i]}%`);
    return bar;
  });
  list.replaceChildren(...bars);
  return list;
}

/** A figure with a canvas, and the canvas. */
function makeFigure(words, width, height, className = "") {
  const canvas = makeCanvas(width, height, className);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  const caption = make("figcaption", "", words);
  caption.setAttribute("aria-hidden", "true"); // the canvas says the same
  return [make("figure", "", "", canvas, caption), canvas];
}

/** Draw a square of side×side; colour: of a pixel, by its number: red, green and blue. */
function drawSquare(canvas, side, colour) {
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([...colour(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Draw bytes, 3×side×side. */
function drawPixels(canvas, pixels) {
  const points = facts.side ** 2;
  drawSquare(canvas, facts.side, (i) => [pixels[i], pixels[points + i], pixels[2 * points + i]]);
}

/** Orange where the answer depends on the picture, which lies below in grey. */
function drawMap(canvas, pixels, heat) {
  const points = facts.side ** 2;
  drawSquare(canvas, facts.side, (i) => {
    const grey = 0.3 * pixels[i] + 0.59 * pixels[points + i] + 0.11 * pixels[2 * points + i];
    return [250, 110, 0].map((colour) => grey * 0.8 * (1 - 0.85 * heat[i]) + colour * 0.85 * heat[i]);
  });
}

/** A canvas, in a figure, with a picture as large as it is needed, darkened where the network does not see it. */
function photoOf(source) {
  const scale = Math.min(1, 480 / Math.max(source.width, source.height));
  const [, canvas] = makeFigure("A foto", Math.max(1, source.width * scale), Math.max(1, source.height * scale));
  const { width, height } = canvas, context = canvas.getContext("2d"), side = Math.min(width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  if (facts.framing !== "centro" || Math.abs(width - height) < 2) return canvas;
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  context.fillStyle = "rgb(0 0 0 / .55)";
  context.fill(new Path2D(`M0 0H${width}V${height}H0Z M${left} ${top}V${top + side}H${left + side}V${top}Z`));
  context.strokeStyle = "white";
  context.lineWidth = 4;
  context.strokeRect(left + 2, top + 2, side - 4, side - 4);
  return canvas;
}

/** Compute the map of an answer in a canvas, and draw it as it comes. */
async function fillMap(canvas, caption, pixels, target) {
  const { starts } = patches(facts.side), rows = starts.map(() => undefined);
  const given = { isUrgent: false, isWanted: () => canvas.isConnected };
  caption.textContent += ": calculando…";
  try {
    await Promise.all(starts.map(async (top, i) => {
      rows[i] = await pool.run("cover", [pixels, target, top], given);
      drawMap(canvas, pixels, heatMap(facts.side, rows));
    }));
    caption.textContent = canvas.getAttribute("aria-label");
  } catch {
    caption.textContent = `${canvas.getAttribute("aria-label")}: não pôde ser calculado`;
  }
  canvas.removeAttribute("aria-busy");
}

const unseen = new Map(); // by canvas, what makes the map of a card that was not in sight yet
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    unseen.get(target)?.();
    unseen.delete(target);
  }
}, { rootMargin: "200px" });

/** Fill a card with an answer. notes: what there is to say of it, lines that warn; twin: a card's name, of the same. */
function fillCard(card, { name, photo, pixels, probabilities, notes, twin }) {
  const order = ranked(probabilities);
  const [seen, small] = makeFigure("O que a rede vê", facts.side, facts.side, "pixels");
  drawPixels(small, pixels);
  const [where, map] = makeFigure("De onde a resposta vem", facts.side, facts.side, "pixels");
  drawMap(map, pixels, new Float64Array(facts.side ** 2));
  map.setAttribute("aria-busy", "true");
  const caption = where.querySelector("figcaption");
  unseen.set(map, () => fillMap(map, caption, pixels, order[0]));
  sight.observe(map);

  const bars = fillBars(make("ul", "bars"), probabilities, order.slice(0, 3));
  const rest = makeButton("Ver todas", () => {
    fillBars(bars, probabilities, order);
    rest.remove();
    bars.tabIndex = -1; // where the keyboard goes on
    bars.focus();
  }, "small");
  const save = makeButton(canShare ? "Compartilhar" : "Salvar como imagem", () => {
    sharePicture({ photo, pixels, probabilities, notes });
  }, "small");
  save.hidden = blindness > FAR_OFF; // such a browser would hide the saved picture, too
  const title = make("h2", "", "", make("bdi", "", facts.classes[order[0]]));
  const text = make("div", "answer", "", title, make("p", "name", "", make("bdi", "", name)));
  const which = twin === name ? "de antes" : make("bdi", "", twin);
  if (twin) text.append(make("p", "name", `Para a rede, é a mesma foto ${twin === name ? "" : "que "}`, which));
  const warnings = notes.map((note) => make("p", "warning", note));
  const isDoubted = notes[0] === facts.doubt; // what is said of the answer stands above the bars, the rest at the end
  text.append(...warnings.splice(0, isDoubted ? 1 : 0), bars);
  text.append(make("div", "actions", "", ...(order.length > 3 ? [rest] : []), save));
  card.className = "";
  card.replaceChildren(text, make("div", "pictures", "", photo.parentElement, seen, where), ...warnings);
}
