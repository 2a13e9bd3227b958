"use strict";
// An answer as a picture to send: the photo, what the network sees, and the bars; shared, or else saved.

const canShare = Boolean(navigator.canShare?.({ files: [new File([""], "a.png", { type: "image/png" })] }));

/** Draw an answer on a canvas of 1080×1350. */
function drawShared({ source, pixels, probabilities }) {
  const canvas = make("canvas"), small = make("canvas"), photo = make("canvas");
  Object.assign(canvas, { width: 1080, height: 1350 });
  Object.assign(small, { width: facts.side, height: facts.side });
  drawPixels(small, pixels);
  const scale = 640 / Math.max(source.width, source.height);
  Object.assign(photo, { width: Math.max(1, source.width * scale), height: Math.max(1, source.height * scale) });
  drawPhoto(photo, source);

  const context = canvas.getContext("2d"), order = ranked(probabilities);
  const write = (text, x, y, size, colour, align = "left", weight = 400, most = 960) => {
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y, most);
  };
  context.fillStyle = "#f6f4ef";
  context.fillRect(0, 0, 1080, 1350);
  write(facts.title, 60, 110, 52, "#566072", "left", 600);
  context.fillStyle = "#d9d5cb";
  context.fillRect(60, 160, 640, 640);
  context.drawImage(photo, 60 + (640 - photo.width) / 2, 160 + (640 - photo.height) / 2);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 740, 160, 280, 280);
  write("o que a rede vê", 740, 480, 32, "#566072", "left", 400, 280);
  write(facts.classes[order[0]], 60, 910, 88, "#1b2330", "left", 700);
  order.slice(0, 3).forEach((i, place) => {
    const y = 960 + 90 * place;
    context.fillStyle = "#ffffff";
    context.fillRect(60, y, 960, 70);
    context.fillStyle = "#cfe6df";
    context.fillRect(60, y, Math.max(6, 960 * probabilities[i]), 70);
    write(facts.classes[i], 84, y + 47, 36, "#1b2330", "left", 400, 600);
    write(shareOf(probabilities[i]), 996, y + 47, 36, "#1b2330", "right", 400, 320);
  });
  write(facts.signature, 60, 1290, 32, "#566072");
  return canvas;
}

/** Give the picture to what the visitor shares with; where there is nothing of the kind, save it. */
async function sharePicture(answer) {
  const name = facts.classes[ranked(answer.probabilities)[0]].replace(/[^\p{L}\p{N}]+/gu, "-");
  const blob = await new Promise((resolve) => drawShared(answer).toBlob(resolve, "image/png"));
  const file = new File([blob], `${name}.png`, { type: "image/png" });
  if (canShare) {
    await navigator.share({ files: [file], title: facts.title }).catch(() => {}); // the visitor thought better of it
    return;
  }
  const link = make("a");
  Object.assign(link, { href: URL.createObjectURL(file), download: file.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
