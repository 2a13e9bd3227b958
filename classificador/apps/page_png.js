"use strict";
// A PNG with transparency, laid on white to the byte as Pillow does it: browsers multiply the colours with the transparency
// beforehand, and Firefox rounds that up. And one of 16 bits, made as light as data/deep.py makes it.

const MOST_EXACT = 12e6; // pixels; a larger one is left to the browser, for its memory

/** What a filter of the PNG format adds to a byte; left, up, corner: the same channel of the pixels decoded before. */
function filtered(kind, left, up, corner) {
  if (kind === 1) return left;
  if (kind === 2) return up;
  if (kind === 3) return (left + up) >> 1;
  const toLeft = Math.abs(up - corner), toUp = Math.abs(left - corner), toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/** The first `length` bytes that are compressed in parts; nothing where there are fewer. */
async function inflate(parts, length) {
  const bytes = new Uint8Array(length); // and not one more, whatever comes
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  for (let filled = 0, part; filled < length; filled += part.length) {
    part = (await inflated.read()).value;
    if (!part) return null;
    bytes.set(part.subarray(0, length - filled), filled);
  }
  inflated.cancel().catch(() => {});
  return bytes;
}

/** Take the filters off lines, each of `length` bytes behind the number of its filter, from 0 to 4; step: a pixel's bytes. */
function unfilter(lines, length, step) {
  let above = new Uint8Array(length);
  for (let start = 0; start < lines.length; start += length + 1) {
    const kind = lines[start], line = lines.subarray(start + 1, start + 1 + length);
    if (kind > 4) throw new Error("no filter");
    for (let i = 0; kind && i < length; i++) {
      const before = i - step;
      line[i] += filtered(kind, before < 0 ? 0 : line[before], above[i], before < 0 ? 0 : above[before]);
    }
    above = line;
  }
}

/**
 * A PNG with transparency or of 16 bits, on white: its width, height and bytes, four a pixel, of which the last is 255.
 * Nothing of any other file, and where the browser cannot inflate.
 */
async function onWhite(bytes) {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 33 || view.getUint32(0) !== 0x89504e47 || !self.DecompressionStream) return null;
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const channels = { 0: 1, 2: 3, 4: 2, 6: 4 }[bytes[25]], size = bytes[24] / 8; // bytes a value
  const isClear = channels === 2 || channels === 4;
  const length = width * channels * size;
  if (!(size === 2 || (size === 1 && isClear)) || !channels || bytes[28] || width * height > MOST_EXACT) return null;
  const parts = [];
  for (let place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
    const start = place + 8, name = view.getUint32(place + 4);
    if (name === 0x49444154) parts.push(bytes.subarray(start, start + view.getUint32(place))); // IDAT
  }
  const lines = await inflate(parts, height * (length + 1));
  if (!lines) return null;
  unfilter(lines, length, channels * size);

  const light = channels - isClear; // channels that are light
  const level = (at) => (size === 2 ? 256 * lines[at] + lines[at + 1] : lines[at]);
  let most = 255; // white is the largest number of as many bits
  eachPixel(lines, length, channels * size, (from) => {
    for (let c = 0; size === 2 && c < light; c++) most = Math.max(most, level(from + c * size));
  });
  const white = 2 ** (32 - Math.clz32(most)) - 1;
  const pixels = new Uint8ClampedArray(width * height * 4);
  let to = 0;
  eachPixel(lines, length, channels * size, (from) => {
    const alpha = isClear ? lines[from + light * size] : 255;
    for (let c = 0; c < 3; c++) {
      const colour = Math.floor((level(from + (light === 3 ? c * size : 0)) * 255) / white);
      const sum = 128 * (colour * alpha + 255 * (255 - alpha)) + 2 ** 14; // the rounding of Pillow's AlphaComposite.c
      pixels[to + c] = ((sum >> 8) + sum) >> 15;
    }
    pixels[to + 3] = 255;
    to += 4;
  });
  return { width, height, pixels };
}

/** Call act(from) with the place of each pixel's first byte, line after line. */
function eachPixel(lines, length, step, act) {
  for (let start = 1; start < lines.length; start += length + 1) {
    for (let from = start; from < start + length; from += step) act(from);
  }
}
