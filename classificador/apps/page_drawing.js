"use strict";
// "Como funciona": the network as one drawing, which moves with the picture that was answered last.

/** A canvas of the drawing, in a figure with a caption. */
function drawingPart(words, width, height, caption) {
  const [figure, canvas] = makeFigure(words, width, height, "pixels");
  figure.querySelector("figcaption").textContent = caption;
  byId("flow").append(figure);
  return canvas;
}

/** Draw eight maps of a convolution, in two columns, as bright as they respond. */
function drawMaps(canvas, { side, maps }) {
  Object.assign(canvas, { width: 2 * (side + 1) - 1, height: 4 * (side + 1) - 1 });
  const context = canvas.getContext("2d");
  maps.forEach((map, i) => {
    const tile = make("canvas"), most = Math.max(1e-9, ...map);
    Object.assign(tile, { width: side, height: side });
    drawSquare(tile, side, (place) => {
      const light = Math.sqrt(map[place] / most);
      return [20 + 235 * light, 24 + 150 * light, 31 + 30 * light];
    });
    context.drawImage(tile, (i % 2) * (side + 1), Math.floor(i / 2) * (side + 1));
  });
}

/** The drawing of an answer: photo, what the network sees, its layers' strongest maps, and the bars of all classes. */
function drawNetwork({ source, pixels, probabilities, strongest }) {
  byId("flow").replaceChildren();
  const scale = 160 / Math.max(source.width, source.height);
  const photo = drawingPart("A foto", Math.max(1, source.width * scale), Math.max(1, source.height * scale), "a foto");
  photo.className = "";
  drawPhoto(photo, source);
  const pixelsText = `${facts.side}×${facts.side} pixels`;
  drawPixels(drawingPart(`O que a rede vê: ${pixelsText}`, facts.side, facts.side, pixelsText), pixels);
  strongest.forEach((layer, i) => {
    const words = `${i + 1}ª convolução: ${layer.maps.length} de ${layer.channels} filtros`;
    drawMaps(drawingPart(`${words}, os que mais variam`, 1, 1, words), layer);
  });
  const bars = make("ul", "thin"), best = Math.max(...probabilities);
  probabilities.slice(0, 40).forEach((share, i) => {
    const bar = make("li", share === best ? "best" : "", "", make("bdi", "", facts.classes[i]));
    bar.style.setProperty("--share", `${100 * share}%`);
    bars.append(bar);
  });
  byId("flow").append(make("figure", "", "", bars, make("figcaption", "", "as respostas")));
}
