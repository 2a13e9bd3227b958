"use strict";
// The camera, live: the bars move with what is before it, and one picture of it becomes a card.

const viewfinder = byId("viewfinder"), video = viewfinder.querySelector("video");
const REFUSALS = {
  NotAllowedError: "A câmera não foi permitida, pelo navegador ou pelo site. Permita-a, ou escolha uma foto.",
  NotFoundError: "Nenhuma câmera foi encontrada. Escolha uma foto.",
};
const STEADY = 0.6; // how much of what the live bars showed stays at each answer, so that they can be read
let filming = 0; // counts what was asked of the camera: an answer that comes too late is of no use

/** Whether this page may ask for a camera: not in a frame that a site closed to it. */
function mayFilm() {
  const closed = self !== top && self.origin === "null";
  const policy = document.featurePolicy?.allowsFeature("camera") ?? true;
  return Boolean(navigator.mediaDevices?.getUserMedia) && policy && !closed;
}

function stopFilming() {
  filming += 1;
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  byId("shoot").disabled = true;
}

/** Say why there is no camera, and close it. */
function giveUp(error) {
  const other = `A câmera não pôde ser usada (${error.name}). Escolha uma foto.`;
  stopFilming();
  viewfinder.close();
  byId("camera").disabled = false;
  say(REFUSALS[error.name] ?? other);
}

/** Show what a camera sees, as it is wanted, and answer to it until another is wanted or none. */
function startFilming(wanted) {
  stopFilming();
  const mine = filming;
  film(wanted, mine).catch((error) => {
    if (mine === filming) giveUp(error);
  });
}

async function film(wanted, mine) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
  const [track] = stream.getTracks();
  if (mine !== filming) {
    track.stop(); // meanwhile another was asked for
    return;
  }
  video.srcObject = stream;
  track.onended = () => giveUp({ name: "ela parou" });
  viewfinder.classList.toggle("mirror", track.getSettings().facingMode !== "environment"); // as one knows oneself
  if (!viewfinder.open) viewfinder.showModal();
  say("");
  await video.play();
  const cameras = await navigator.mediaDevices.enumerateDevices();
  byId("turn").hidden = cameras.filter(({ kind }) => kind === "videoinput").length < 2;
  if (mine !== filming) return;
  byId("shoot").disabled = false;
  byId("shoot").focus();
  await watch(mine);
}

/** Answer to what the camera sees, one picture after the other. */
async function watch(mine) {
  let steady, count = 0;
  while (mine === filming) {
    if (video.videoWidth) {
      const pixels = see(video, video.videoWidth, video.videoHeight, facts);
      const probabilities = await pool.run("predict", [pixels]);
      if (mine !== filming) return;
      steady = probabilities.map((share, i) => STEADY * (steady?.[i] ?? share) + (1 - STEADY) * share);
      const order = ranked(steady);
      fillBars(byId("live"), steady, order.slice(0, 3));
      const doubt = steady[order[0]] < facts.doubt_below ? "A rede hesita: talvez não seja nada que ela conhece." : "";
      byId("unsure").textContent = `${doubt}${blindness ? " Este navegador muda um pouco as imagens." : ""}`.trim();
      viewfinder.dataset.answers = ++count;
    }
    await new Promise(requestAnimationFrame);
  }
}

byId("camera").hidden = !mayFilm();
byId("camera").onclick = () => {
  if (isBlind()) return;
  byId("camera").disabled = true; // until the viewfinder is closed
  say("Permita a câmera no navegador, se ele perguntar.");
  startFilming({ facingMode: "environment" });
};
byId("turn").onclick = async () => {
  // A phone's cameras look to one side or the other; a computer's do not say where.
  const { facingMode, deviceId } = video.srcObject?.getVideoTracks()[0]?.getSettings() ?? {};
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const next = cameras[(cameras.findIndex((camera) => camera.deviceId === deviceId) + 1) % cameras.length];
  const other = { facingMode: facingMode === "user" ? "environment" : "user" };
  startFilming(facingMode ? other : { deviceId: { exact: next.deviceId } });
};
byId("shoot").onclick = async () => {
  byId("shoot").disabled = true;
  const bitmap = await createImageBitmap(video).catch(() => null);
  viewfinder.close();
  if (!bitmap) say("A foto não pôde ser tirada. Tente de novo.");
  else take([`Câmera, ${new Date().toLocaleTimeString("pt-BR")}`, () => ({ source: bitmap })]);
};
byId("close").onclick = () => viewfinder.close();
viewfinder.onclose = () => {
  stopFilming();
  byId("live").replaceChildren();
  byId("unsure").textContent = "";
  byId("camera").disabled = false;
  byId("camera").focus({ preventScroll: true });
};
