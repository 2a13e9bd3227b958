"use strict";
// "Como funciona": the network as one drawing, which moves with the picture that was answered last.

/** A canvas of the drawing, in a figure with a caption. */
function drawingPart(words, width, height, caption) {
  const [figure, canvas] = makeFigure(words, width, height, "pixels");
  figure.querySelector("figcaption").innerText = caption;
  byId("flow").append(figure);
  return canvas;
}

/** Draw eight maps of a convolution, in two columns, as bright as they respond. */
function drawMaps(canvas, { side, maps }) {
  Object.assign(canvas, { width: 2 * (side + 1) - 1, height: Math.ceil(maps.length / 2) * (side + 1) - 1 });
  const context = canvas.getContext("2d");
  maps.forEach((map, i) => {
    const tile = makeCanvas(side, side), most = Math.max(1e-9, ...map);
    drawSquare(tile, side, (place) => {
      const light = Math.sqrt(map[place] / most);
      return [20 + 235 * light, 24 + 150 * light, 31 + 30 * light];
    });
    context.drawImage(tile, (i % 2) * (side + 1), Math.floor(i / 2) * (side + 1));
  });
}

/** The drawing of an answer: photo, what the network sees, its layers' strongest maps, and the bars of all classes. */
function drawNetwork({ photo, pixels, probabilities, strongest }) {
  byId("flow").replaceChildren();
  const copy = drawingPart("A foto", photo.width, photo.height, "a foto");
  copy.className = "";
  copy.getContext("2d").drawImage(photo, 0, 0);
  const pixelsText = `${facts.side}×${facts.side} pixels`;
  drawPixels(drawingPart(`O que a rede vê: ${pixelsText}`, facts.side, facts.side, pixelsText), pixels);
  strongest.forEach((layer, i) => {
    const [name, count] = [`${i + 1}ª convolução`, `${layer.maps.length} de ${layer.channels} filtros`];
    drawMaps(drawingPart(`${name}: ${count}, os que mais reagem`, 1, 1, `${name}\n${count}`), layer);
  });
  const bars = make("ul", "thin"), order = ranked(probabilities), shown = order.slice(0, 10).sort((a, b) => a - b);
  for (const i of shown) {
    const [name, share] = [make("bdi", "", facts.classes[i]), make("span", "hidden", shareOf(probabilities[i]))];
    const bar = make("li", i === order[0] ? "best" : "", "", name, share);
    bar.style.setProperty("--share", `${100 * probabilities[i]}%`);
    bars.append(bar);
  }
  const rest = order.length - shown.length;
  if (rest) bars.append(make("li", "rest", `e mais ${rest}`));
  byId("moving").hidden = false;
  byId("flow").append(make("figure", "", "", bars, make("figcaption", "", "as respostas")));
}
