"use strict";
// The camera, live: the bars move with what is before it, and one picture of it becomes a card.

const viewfinder = byId("viewfinder"), video = viewfinder.querySelector("video");
const REFUSALS = {
  NotAllowedError: "A câmera não foi permitida. Permita-a no navegador, ou escolha uma foto.",
  NotFoundError: "Nenhuma câmera foi encontrada. Escolha uma foto.",
};
let facing = "environment"; // away from the visitor

/** Whether this page may ask for a camera: not in a frame that a site closed to it. */
function mayFilm() {
  const closed = self !== top && self.origin === "null";
  const policy = document.featurePolicy?.allowsFeature("camera") ?? true;
  return Boolean(navigator.mediaDevices?.getUserMedia) && policy && !closed;
}

function stopFilming() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

/** Show what the camera sees, and go on answering to it until it is another's turn. */
async function film() {
  stopFilming();
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
  video.srcObject = stream;
  if (!viewfinder.open) viewfinder.showModal();
  await video.play();
  if (!viewfinder.open) stopFilming(); // closed meanwhile
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  byId("turn").hidden = cameras.length < 2;
  byId("shoot").disabled = !viewfinder.open;
  byId("shoot").focus();
  watch(stream);
}

async function watch(stream) {
  let count = 0;
  while (viewfinder.open && video.srcObject === stream) {
    if (video.videoWidth) {
      const { probabilities, strongest } = await pool.run("answer", [see(video, video.videoWidth, video.videoHeight, facts)]);
      const order = ranked(probabilities), isDoubtful = probabilities[order[0]] < facts.doubt_below;
      fillBars(byId("live"), probabilities, order.slice(0, 3));
      byId("unsure").textContent = isDoubtful ? "Talvez nenhuma delas." : "";
      viewfinder.dataset.answers = ++count;
    }
    await new Promise(requestAnimationFrame);
  }
}

byId("camera").hidden = !mayFilm();
byId("camera").onclick = async () => {
  if (isBlind()) return;
  byId("camera").disabled = true; // until the viewfinder is closed
  try {
    await film();
  } catch (error) {
    viewfinder.close();
    byId("camera").disabled = false;
    say(REFUSALS[error.name] ?? `A câmera não pôde ser usada (${error.name}). Escolha uma foto.`);
  }
};
byId("turn").onclick = async () => {
  facing = facing === "user" ? "environment" : "user";
  viewfinder.classList.toggle("mirror", facing === "user"); // as one knows oneself; the network gets it as it is
  await film().catch(() => viewfinder.close());
};
byId("shoot").onclick = async () => {
  byId("shoot").disabled = true;
  const bitmap = await createImageBitmap(video);
  viewfinder.close();
  take([`Câmera, ${new Date().toLocaleTimeString("pt-BR")}`, () => bitmap]);
};
byId("close").onclick = () => viewfinder.close();
viewfinder.onclose = () => {
  stopFilming();
  byId("live").replaceChildren();
  byId("shoot").disabled = true;
  byId("camera").disabled = false;
  byId("camera").focus({ preventScroll: true });
};
