"use strict";
// An answer as a picture to send: the photo, what the network sees, and the bars; shared, or else saved.

const canShare = Boolean(navigator.canShare?.({ files: [new File([""], "a.png", { type: "image/png" })] }));

/** A text as lines no wider than so many pixels in the context's font. */
function wrapped(context, text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (context.measureText(longer).width <= most) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Draw an answer on a canvas of 1080×1350. */
function drawShared({ photo, pixels, probabilities, notes }) {
  const canvas = makeCanvas(1080, 1350), small = makeCanvas(facts.side, facts.side);
  drawPixels(small, pixels);
  const context = canvas.getContext("2d"), order = ranked(probabilities);
  const write = (text, x, y, size, { colour = "#566072", align = "left", weight = 400, most = 960 } = {}) => {
    Object.assign(context, { fillStyle: colour, textAlign: align });
    for (let fitting = size; fitting >= size / 2; fitting -= 2) {
      context.font = `${weight} ${fitting}px system-ui, sans-serif`;
      if (context.measureText(text).width <= most) break;
    }
    context.fillText(text, x, y, most);
  };
  const ink = { colour: "#1b2330" };
  context.fillStyle = "#f6f4ef";
  context.fillRect(0, 0, 1080, 1350);
  write(facts.title, 60, 110, 52, { weight: 600 });
  context.fillStyle = "#d9d5cb";
  context.fillRect(60, 160, 640, 640);
  const [width, height] = [photo.width, photo.height].map((length) => (640 * length) / Math.max(photo.width, photo.height));
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 60 + (640 - width) / 2, 160 + (640 - height) / 2, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 740, 160, 280, 280);
  write("o que a rede vê", 740, 480, 32, { most: 280 });
  write(facts.classes[order[0]], 60, 890, 84, { ...ink, weight: 700 });
  context.font = "400 26px system-ui, sans-serif";
  const lines = notes.flatMap((note) => wrapped(context, note, 960));
  lines.forEach((line, i) => write(line, 60, 932 + 34 * i, 26, { colour: "#8a3b00" }));
  const start = 980 + 34 * Math.max(0, lines.length - 1), step = Math.max(40, Math.min(88, (1258 - start) / 3)), high = step - 18;
  order.slice(0, 3).forEach((i, place) => {
    const y = start + step * place, size = Math.min(36, 0.7 * high), line = y + high / 2 + 0.35 * size;
    context.fillStyle = "#ffffff";
    context.fillRect(60, y, 960, high);
    context.fillStyle = "#cfe6df";
    context.fillRect(60, y, Math.max(6, 960 * probabilities[i]), high);
    write(facts.classes[i], 84, line, size, { ...ink, most: 600 });
    write(shareOf(probabilities[i]), 996, line, size, { ...ink, align: "right", most: 320 });
  });
  write(facts.signature, 60, 1300, 32);
  return canvas;
}

/** Give the picture to what the visitor shares with; where there is nothing of the kind, save it. */
async function sharePicture(answer) {
  const name = facts.classes[ranked(answer.probabilities)[0]].replace(/[^\p{L}\p{N}]+/gu, "-");
  const blob = await new Promise((resolve) => drawShared(answer).toBlob(resolve, "image/png"));
  const file = new File([blob], `${name}.png`, { type: "image/png" });
  if (canShare) {
    try {
      await navigator.share({ files: [file], title: facts.title });
      return;
    } catch (error) {
      if (error.name === "AbortError") return; // the visitor thought better of it
    }
  }
  const link = make("a");
  Object.assign(link, { href: URL.createObjectURL(file), download: file.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
