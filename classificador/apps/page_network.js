"use strict";
// The trained network, in a page: from a picture to probabilities, and where they come from. The export runs it too, and
// compares its answers with PyTorch's before it writes the page.
//
// Responses are {channels, side, values}, as a tensor of channels×side×side. A window is the part of the rows and
// columns that is to be computed, {top, left, bottom, right}, the last two excluded: of a picture of which a part is
// covered, only that part and what it reaches are computed again.

/** The bytes of a text in base64, as numbers of a type. */
function decode(text, Numbers) {
  const values = new Uint8Array(128);
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((digit, value) => {
    values[digit.charCodeAt(0)] = value;
  });
  const bytes = new Uint8Array((text.length / 4) * 3);
  for (let from = 0, to = 0; from < text.length; from += 4) {
    const [a, b, c, d] = [0, 1, 2, 3].map((place) => values[text.charCodeAt(from + place)]);
    bytes[to++] = (a << 2) | (b >> 4);
    bytes[to++] = (b << 4) | (c >> 2);
    bytes[to++] = (c << 6) | d;
  }
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return new Numbers(bytes.buffer.slice(0, bytes.length - padding));
}

/** A convolution's or linear layer's numbers: weights, a scale for each row of them, and a shift. */
function unpack(layer) {
  const numbers = decode(layer.weights, layer.bits === 16 ? Int16Array : Float32Array);
  const rows = Math.ceil(layer.outputs / 4) * 4; // multiply() takes four at a time
  const filled = (values, length) => {
    const longer = new Float64Array(length);
    longer.set(values);
    return longer;
  };
  const weights = filled(numbers, rows * (numbers.length / layer.outputs));
  const [scale, shift] = [layer.scale, layer.shift].map((text) => filled(decode(text, Float32Array), rows));
  return { ...layer, rows, weights, scale, shift };
}

/** scale · (weights × column) + shift, for two columns that lie one after the other; `results` likewise. */
function multiply({ weights, rows, scale, shift }, columns, results) {
  const inputs = columns.length / 2;
  // Eight sums at a time: each number that is read serves two or four of them, which is three times as fast as one.
  for (let row = 0; row < rows; row += 4) {
    const w0 = row * inputs, w1 = w0 + inputs, w2 = w1 + inputs, w3 = w2 + inputs;
    let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    for (let i = 0; i < inputs; i++) {
      const a = columns[i], b = columns[inputs + i];
      const v0 = weights[w0 + i], v1 = weights[w1 + i], v2 = weights[w2 + i], v3 = weights[w3 + i];
      a0 += v0 * a; a1 += v1 * a; a2 += v2 * a; a3 += v3 * a;
      b0 += v0 * b; b1 += v1 * b; b2 += v2 * b; b3 += v3 * b;
    }
    results[row] = a0; results[row + 1] = a1; results[row + 2] = a2; results[row + 3] = a3;
    results[rows + row] = b0; results[rows + row + 1] = b1; results[rows + row + 2] = b2; results[rows + row + 3] = b3;
  }
  for (let i = 0; i < 2 * rows; i++) results[i] = results[i] * scale[i % rows] + shift[i % rows];
}

// Numbers of 64 bits throughout, as JavaScript's own: converting 32 at each use takes Firefox up to fifty times as long.
const blank = (channels, side) => ({ channels, side, values: new Float64Array(channels * side * side) });
const all = (side) => ({ top: 0, left: 0, bottom: side, right: side });

/** Calls act(place) for the place of each point of a window in the first channel. */
function atPoints({ side }, window, act) {
  for (let row = window.top; row < window.bottom; row++) {
    for (let column = window.left; column < window.right; column++) act(row * side + column, row, column);
  }
}

/** A layer that changes each point by itself, where it lies. */
function pointwise(input, change) {
  const points = input.side * input.side;
  const run = (window) => {
    atPoints(input, window, (place) => change(input.values, place, points, input.channels));
    return window;
  };
  return { output: input, run };
}

/** A layer that makes one point of each region of size×size; parts: what it makes of a region, a channel block each. */
function pooling(input, size, parts) {
  const { channels, side, values } = input;
  const output = blank(parts.length * channels, Math.floor(side / size));
  const region = new Float64Array(size * size);
  const run = ({ top, left, bottom, right }) => {
    const window = {
      top: Math.floor(top / size),
      left: Math.floor(left / size),
      bottom: Math.min(output.side, Math.ceil(bottom / size)),
      right: Math.min(output.side, Math.ceil(right / size)),
    };
    atPoints(output, window, (place, row, column) => {
      for (let channel = 0; channel < channels; channel++) {
        for (let i = 0; i < region.length; i++) {
          const down = row * size + Math.floor(i / size), across = column * size + (i % size);
          region[i] = values[(channel * side + down) * side + across];
        }
        parts.forEach((part, block) => {
          output.values[(block * channels + channel) * output.side * output.side + place] = part(region);
        });
      }
    });
    return window;
  };
  return { output, run };
}

function largest(region) {
  let most = region[0];
  for (let i = 1; i < region.length; i++) if (region[i] > most) most = region[i];
  return most;
}

function mean(region) {
  let sum = 0;
  for (let i = 0; i < region.length; i++) sum += region[i];
  return sum / region.length;
}

// What each kind of layer does to what comes in. They are those of network/cnn.py.
const LAYERS = {
  convolution(layer, input) {
    const { size, outputs, rows } = layer;
    const { channels, side, values } = input;
    const output = blank(outputs, side);
    const before = Math.floor((size - 1) / 2), after = size - 1 - before; // rows of zeros around the image
    const columns = new Float64Array(2 * channels * size * size), results = new Float64Array(2 * rows);
    const gather = (from, row, column) => {
      for (let channel = 0; channel < channels; channel++) {
        for (let y = row - before; y <= row + after; y++) {
          for (let x = column - before; x <= column + after; x++) {
            const inside = y >= 0 && y < side && x >= 0 && x < side;
            columns[from++] = inside ? values[(channel * side + y) * side + x] : 0;
          }
        }
      }
    };
    const run = ({ top, left, bottom, right }) => {
      const window = {
        top: Math.max(0, top - after),
        left: Math.max(0, left - after),
        bottom: Math.min(side, bottom + before),
        right: Math.min(side, right + before),
      };
      for (let row = window.top; row < window.bottom; row++) {
        for (let column = window.left; column < window.right; column += 2) {
          gather(0, row, column);
          gather(columns.length / 2, row, column + 1);
          multiply(layer, columns, results);
          const both = column + 1 < window.right;
          for (let channel = 0; channel < outputs; channel++) {
            const place = (channel * side + row) * side + column;
            output.values[place] = results[channel];
            if (both) output.values[place + 1] = results[rows + channel];
          }
        }
      }
      return window;
    };
    return { output, run };
  },

  linear(layer, input) {
    const output = blank(layer.outputs, 1);
    const columns = new Float64Array(2 * input.values.length), results = new Float64Array(2 * layer.rows);
    const run = () => {
      columns.set(input.values);
      multiply(layer, columns, results);
      output.values.set(results.subarray(0, layer.outputs));
      return all(1);
    };
    return { output, run };
  },

  contrast(layer, input) {
    return pointwise(input, (values, place, points, channels) => {
      let squares = 0;
      for (let i = place; i < values.length; i += points) squares += values[i] * values[i];
      const factor = 1 / Math.sqrt(squares / channels + 0.1);
      for (let i = place; i < values.length; i += points) values[i] *= factor;
    });
  },

  scale(layer, input) {
    const [factors, shifts] = [layer.scale, layer.shift].map((text) => Float64Array.from(decode(text, Float32Array)));
    return pointwise(input, (values, place, points, channels) => {
      for (let c = 0; c < channels; c++) values[c * points + place] = values[c * points + place] * factors[c] + shifts[c];
    });
  },

  relu(layer, input) {
    return pointwise(input, (values, place, points) => {
      for (let i = place; i < values.length; i += points) if (values[i] < 0) values[i] = 0;
    });
  },

  maximum: (layer, input) => pooling(input, layer.size, [largest]),
  maximum_and_mean: (layer, input) => pooling(input, layer.size, [largest, mean]),
};

/** The layers one after the other, for an image or, mirrored, for its mirror image. */
function makeChain(layers, side, mirrored) {
  const image = blank(3, side);
  const steps = [];
  for (const layer of layers) steps.push(LAYERS[layer.kind](layer, (steps.at(-1) ?? { output: image }).output));
  const held = [...new Set([image, ...steps.map((step) => step.output)])].map(({ values }) => values);
  let kept = [];
  return {
    /** Put in the window of the pixels (bytes, 3×side×side), and return the logits. */
    run(pixels, { top, left, bottom, right }) {
      let window = mirrored ? { top, bottom, left: side - right, right: side - left } : { top, left, bottom, right };
      atPoints(image, window, (place, row, column) => {
        const from = mirrored ? row * side + side - 1 - column : place;
        for (let channel = 0; channel < 3; channel++) {
          const start = channel * side * side;
          image.values[start + place] = (pixels[start + from] / 255 - 0.5) / 0.5;
        }
      });
      for (const step of steps) window = step.run(window);
      return steps.at(-1).output.values;
    },
    keep() {
      kept = held.map((values) => values.slice());
    },
    restore() {
      held.forEach((values, i) => values.set(kept[i]));
    },
  };
}

function makeNetwork(model) {
  const layers = model.layers.map((layer) => (layer.weights ? unpack(layer) : layer));
  const { side } = model;
  const chains = (model.symmetric ? [false, true] : [false]).map((mirrored) => makeChain(layers, side, mirrored));

  /** The mean of the logits for the image and, of a symmetric network, its mirror image. */
  const logits = (pixels, window) => {
    const answers = chains.map((chain) => chain.run(pixels, window));
    return Array.from(answers[0], (_, i) => answers.reduce((sum, answer) => sum + answer[i], 0) / answers.length);
  };

  const logSoftmax = (values) => {
    const most = Math.max(...values);
    const total = most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
    return values.map((value) => value - total);
  };

  /** Calibrated probabilities for pixels: bytes, 3×side×side. */
  const predict = (pixels) => {
    return logSoftmax(logits(pixels, all(side)).map((value) => value / model.temperature)).map(Math.exp);
  };

  /**
   * How much each pixel matters for a class, as occlusion_map() of results/explain.py computes it. A generator: after
   * each row of places that the patch covers, it yields the map as it is by then, side×side.
   */
  function* occlusionMap(pixels, target) {
    const patch = Math.max(1, Math.floor(side / 4)), stride = Math.max(1, Math.floor(side / 16));
    const points = side * side;
    const means = [0, 1, 2].map((c) => Math.floor(mean(pixels.subarray(c * points, (c + 1) * points))));
    const drops = new Float64Array(points), counts = new Float64Array(points);
    const whole = logSoftmax(logits(pixels, all(side)))[target];
    chains.forEach((chain) => chain.keep());
    for (let top = 0; top <= side - patch; top += stride) {
      for (let left = 0; left <= side - patch; left += stride) {
        const window = { top, left, bottom: top + patch, right: left + patch };
        const covered = pixels.slice();
        atPoints({ side }, window, (place) => means.forEach((value, c) => (covered[c * points + place] = value)));
        const drop = whole - logSoftmax(logits(covered, window))[target];
        chains.forEach((chain) => chain.restore());
        atPoints({ side }, window, (place) => {
          drops[place] += drop;
          counts[place] += 1;
        });
      }
      const heat = drops.map((sum, place) => Math.max(0, sum / Math.max(1, counts[place])));
      const most = Math.max(1e-9, ...heat);
      yield heat.map((value) => value / most);
    }
  }

  return { predict, occlusionMap };
}

// The picture: as a square of bytes, as to_tensor() of data/pictures.py makes it with Pillow.

/** Which pixels, and with what weights, make each of `count` new ones out of those from `start` to `end` of a line. */
function resampling(length, start, end, count, smooth) {
  const scale = (end - start) / count, stretch = Math.max(1, scale);
  const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
  const weight = smooth ? (x) => cubic(Math.abs(x)) : (x) => (x > -0.5 && x <= 0.5 ? 1 : 0);
  const reach = (smooth ? 2 : 0.5) * stretch;
  return Array.from({ length: count }, (_, i) => {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const last = Math.min(length, Math.trunc(center + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => weight((j + first - center + 0.5) * (1 / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    // Pillow computes with whole numbers of 22 bits behind the point.
    return { first, weights: Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** 22 + (w < 0 ? -0.5 : 0.5))) };
  });
}

/** The sum of one channel of some pixels by these weights, as a byte; step: from one pixel's to the next. */
function weigh(bytes, from, step, weights) {
  let sum = 2 ** 21;
  for (let i = 0; i < weights.length; i++) sum += bytes[from + i * step] * weights[i];
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** 22)));
}

/** As Python rounds: halves to the even number. */
const round = (x) => (x - Math.floor(x) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/**
 * What the network sees of a picture of width×height: bytes, 3×side×side.
 * read(left, top, width, height): the bytes of a part of it, red, green, blue and one more for each pixel.
 */
function shrink(width, height, side, framing, read) {
  const whole = framing === "inteira";
  const filled = whole ? Math.max(width, height) : Math.min(width, height);
  const smooth = filled <= side;
  const [across, down] = [width, height].map((length) => {
    const count = whole ? Math.max(1, round((length / filled) * side)) : side;
    const start = whole ? 0 : (length - filled) / 2;
    return resampling(length, start, length - start, count, smooth);
  });
  const end = ({ first, weights }) => first + weights.length;
  const left = across[0].first, right = end(across.at(-1)), top = down[0].first, bottom = end(down.at(-1));

  /** Calls act(bytes, from, row) for each row of the picture; `from` is where it begins in the bytes. */
  const eachRow = (act) => {
    const strip = Math.max(1, Math.floor(2 ** 21 / (right - left))); // rows that are in memory at a time
    for (let start = top; start < bottom; start += strip) {
      const rows = Math.min(strip, bottom - start);
      const bytes = read(left, start, right - left, rows);
      for (let row = 0; row < rows; row++) act(bytes, row * (right - left) * 4, start + row);
    }
  };
  const square = new Uint8Array(3 * side * side).fill(255);
  const [marginLeft, marginTop] = [across, down].map((line) => round((side - line.length) / 2));
  const put = (row, column, c, value) => {
    square[(c * side + marginTop + row) * side + marginLeft + column] = value;
  };

  // As Pillow 13: first what shortens the picture most. The other order would round some bytes otherwise.
  if (height - down.length > Math.max(0, 2 * (width - across.length))) {
    const length = (right - left) * 3, sums = new Int32Array(down.length * length).fill(2 ** 21);
    eachRow((bytes, from, y) => {
      down.forEach(({ first, weights }, row) => {
        if (y < first || y >= first + weights.length) return;
        const weight = weights[y - first], start = row * length;
        for (let i = 0, at = from; i < length; i += 3, at += 4) {
          for (let c = 0; c < 3; c++) sums[start + i + c] += bytes[at + c] * weight;
        }
      });
    });
    const low = Uint8ClampedArray.from(sums, (sum) => sum >> 22);
    down.forEach((_, row) => {
      across.forEach(({ first, weights }, column) => {
        for (let c = 0; c < 3; c++) put(row, column, c, weigh(low, row * length + (first - left) * 3 + c, 3, weights));
      });
    });
    return square;
  }
  const narrow = new Uint8Array((bottom - top) * across.length * 3); // each row as short as in the end
  eachRow((bytes, from, y) => {
    across.forEach(({ first, weights }, column) => {
      const to = ((y - top) * across.length + column) * 3;
      for (let c = 0; c < 3; c++) narrow[to + c] = weigh(bytes, from + (first - left) * 4 + c, 4, weights);
    });
  });
  down.forEach(({ first, weights }, row) => {
    across.forEach((_, column) => {
      const from = ((first - top) * across.length + column) * 3;
      for (let c = 0; c < 3; c++) put(row, column, c, weigh(narrow, from + c, across.length * 3, weights));
    });
  });
  return square;
}

/** Whether a PNG, JPEG, BMP or GIF breaks off before its end: Firefox would show what there is of it. */
function breaksOff(bytes) {
  const has = (place, ...expected) => expected.every((byte, i) => bytes[place + i] === byte);
  const view = new DataView(bytes.buffer);
  let place = 2;
  if (has(0, 0x89, 0x50, 0x4e, 0x47)) {
    // Of parts, each with its length and name, up to the one called IEND.
    for (place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
      if (has(place + 4, 0x49, 0x45, 0x4e, 0x44)) return false;
    }
    return true;
  }
  if (has(0, 0x42, 0x4d) && bytes.length >= 54 && view.getUint32(14, true) >= 40 && view.getUint32(30, true) === 0) {
    const row = Math.ceil((view.getUint16(28, true) * view.getInt32(18, true)) / 32) * 4; // of pixels, not compressed
    return view.getUint32(10, true) + row * Math.abs(view.getInt32(22, true)) > bytes.length;
  }
  if (has(0, 0x47, 0x49, 0x46)) {
    // Of parts, up to the first picture; what each holds is in pieces, each with its length, the last of length 0.
    const palette = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
    const skip = (from) => {
      while (bytes[from]) from += 1 + bytes[from];
      return from + 1;
    };
    for (place = 13 + palette(bytes[10]); place < bytes.length; place = skip(place + 2)) {
      if (bytes[place] === 0x2c) return skip(place + 11 + palette(bytes[place + 9])) > bytes.length;
    }
    return true;
  }
  if (!has(0, 0xff, 0xd8)) return false;
  // Of parts that begin with 255 and a number, most with a length; between them, coded pixels. The last is 255, 217.
  while ((place = bytes.indexOf(0xff, place)) >= 0 && place + 2 <= bytes.length) {
    const kind = bytes[place + 1];
    if (kind === 0xff) place += 1;
    else if (kind === 0xd9) return false;
    else if (kind <= 1 || (kind >= 0xd0 && kind <= 0xd7)) place += 2;
    else if (place + 4 > bytes.length) return true;
    else place += 2 + bytes[place + 2] * 256 + bytes[place + 3];
  }
  return true;
}

/** Whether the EXIF of a WebP or PNG says that it is to be turned, which not all browsers do. */
function isTurned(bytes) {
  const text = (from, length) => String.fromCharCode(...bytes.subarray(from, from + length));
  const webp = text(8, 4) === "WEBP";
  if (!webp && text(1, 3) !== "PNG") return false;
  const view = new DataView(bytes.buffer);
  let place = webp ? 12 : 8, size;
  for (; place + 12 <= bytes.length; place += webp ? 8 + size + (size % 2) : 12 + size) {
    size = view.getUint32(webp ? place + 4 : place, webp);
    if (text(webp ? place : place + 4, 4).toUpperCase() !== "EXIF") continue;
    let start = place + 8;
    if (text(start, 4) === "Exif") start += 6;
    const little = text(start, 2) === "II", first = start + view.getUint32(start + 4, little);
    for (let entry = first + 2; entry < first + 2 + 12 * view.getUint16(first, little); entry += 12) {
      if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little) > 1;
    }
  }
  return false;
}
