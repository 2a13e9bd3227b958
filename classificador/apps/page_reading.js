"use strict";
// Reading pictures in a browser: from a file, or from a video, to the bytes that the network sees; and whether this
// browser lets a page read what is there.

const MOST_PIXELS = 50e6; // as in data/pictures.py
// Levels of 255 by which a canvas that is read may be another. Of 1 000 validation images of CIFAR-10 whose bytes move by
// up to 1, 4 and 16, the shipped model takes 3, 11 and 180 for another class.
const FAR_OFF = 4;

/** An error whose message is a line for the reader. */
class Told extends Error {}

/**
 * By how many levels of 255, at most, what this browser lets a page read of a canvas differs from what was drawn on it.
 * Some change it, a little or wholly, so that nobody can be recognised by how his machine draws.
 */
function canvasError() {
  const side = 32, canvas = document.createElement("canvas");
  Object.assign(canvas, { width: side, height: side });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const colour = (place) => [37, 91, 53].map((step) => (place * step) % 256);
  for (let place = 0; place < side * side; place++) {
    context.fillStyle = `rgb(${colour(place).join()})`;
    context.fillRect(place % side, Math.floor(place / side), 1, 1);
  }
  let most = 0;
  try {
    const { data } = context.getImageData(0, 0, side, side);
    for (let place = 0; place < side * side; place++) {
      colour(place).forEach((level, c) => (most = Math.max(most, Math.abs(data[4 * place + c] - level))));
    }
  } catch {
    return 255;
  }
  return most;
}

const strip = document.createElement("canvas"); // the only one that is read: some browsers free canvases late

/** What the network sees of a bitmap or video of a size: bytes, 3×side×side. */
function see(source, width, height, { side, framing }) {
  return shrink(width, height, side, framing, (left, top, wide, high) => {
    Object.assign(strip, { width: wide, height: high });
    const context = strip.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white"; // under transparency
    context.fillRect(0, 0, wide, high);
    context.drawImage(source, -left, -top);
    return context.getImageData(0, 0, wide, high).data;
  });
}

/** The width and height that a file's picture says it has; zeros where the browser does not show it. */
async function sizeOf(file) {
  const image = new Image(), url = URL.createObjectURL(file);
  try {
    const loaded = new Promise((resolve) => (image.onload = image.onerror = resolve));
    image.src = url;
    await loaded;
    return [image.naturalWidth, image.naturalHeight];
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** A picture whose bytes are known: something to draw, and the pixels that the network sees. */
async function ofBytes({ width, height, pixels }) {
  const seen = shrink(width, height, facts.side, facts.framing, (left, top, wide, high) => {
    const part = new Uint8Array(wide * high * 4);
    for (let row = 0; row < high; row++) {
      const from = ((top + row) * width + left) * 4;
      part.set(pixels.subarray(from, from + wide * 4), row * wide * 4);
    }
    return part;
  });
  return { source: await createImageBitmap(new ImageData(pixels, width, height)), pixels: seen };
}

/**
 * The picture in a file, held as its EXIF says, its colours as they are in the file: something to draw, and the pixels
 * that the network sees, where they are known without a canvas. Throws Told.
 */
async function openPicture(file) {
  const content = await file.arrayBuffer().catch(() => {
    throw new Told("não pôde ser lido. Se é uma pasta, abra-a e solte as fotos que estão nela.");
  });
  const bytes = new Uint8Array(content);
  if (!bytes.length) throw new Told("está vazio. Escolha outra imagem.");
  let turned = false;
  try {
    turned = isTurned(bytes);
  } catch {} // EXIF that is damaged does not count
  if (turned) throw new Told("está virado, e nem todo navegador o põe em pé. Grave-o como JPEG.");
  const [width, height] = await sizeOf(file); // before it is decoded
  if (width * height > MOST_PIXELS) throw new Told(`tem ${width}×${height} pixels, demais. Reduza a imagem antes.`);
  const isBroken = breaksOff(bytes), isPng = String.fromCharCode(...bytes.subarray(1, 4)) === "PNG";
  const picture = isBroken ? null : await onWhite(bytes).catch(() => null);
  if (picture) return ofBytes(picture);
  if (!isBroken && isPng && bytes[24] === 16) throw new Told("é um PNG de 16 bits grande demais, ou de um tipo raro. Converta-o para 8 bits.");
  const bitmap = isBroken ? null : await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  const remedy = "Converta-o para JPEG ou PNG, ou escolha outra imagem.";
  if (!bitmap) throw new Told(`está danificado, ou não é uma imagem que este navegador abra. ${remedy}`);
  return { source: bitmap };
}
