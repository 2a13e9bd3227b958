"use strict";
// A game: the visitor and the network see the same few pixels, and say what they are.

const ROUNDS = 10;
let deck = [], turn = 0, scores = { you: 0, network: 0 };

/** The numbers from 0 to count − 1, in any order. */
function shuffled(values) {
  const rest = [...values], result = [];
  while (rest.length) result.push(...rest.splice(Math.floor(Math.random() * rest.length), 1));
  return result;
}

function showScore() {
  byId("score").textContent = `você ${scores.you} × ${scores.network} rede`;
}

async function nextRound() {
  const example = deck[turn];
  byId("round").textContent = `Foto ${turn + 1} de ${deck.length}: o que é?`;
  byId("verdict").textContent = "";
  byId("next").hidden = true;
  byId("choices").replaceChildren();
  drawPixels(byId("riddle"), example.pixels);
  const probabilities = await pool.run("predict", [example.pixels]);
  if (deck[turn] !== example || !byId("game").open) return; // the visitor left meanwhile
  const order = ranked(probabilities), others = order.filter((i) => i !== example.label).slice(0, 2);
  const choices = shuffled([example.label, ...others]).map((label) => {
    const choice = makeButton("", () => endRound(label, order[0], example.label, probabilities));
    choice.append(make("bdi", "", facts.classes[label]));
    choice.dataset.label = label;
    return choice;
  });
  byId("choices").replaceChildren(...choices);
  choices[0].focus();
}

function endRound(yours, networks, truth, probabilities) {
  scores.you += yours === truth;
  scores.network += networks === truth;
  for (const choice of byId("choices").children) {
    choice.disabled = true;
    const label = Number(choice.dataset.label);
    if (label === truth) choice.className = "right";
    else if (label === yours) choice.className = "wrong";
  }
  const said = `A rede disse \u2068${facts.classes[networks]}\u2069, ${shareOf(probabilities[networks])}.`;
  showScore();
  turn += 1;
  const isOver = turn === deck.length, { you, network } = scores;
  const won = you === network ? "Empate" : you > network ? "Você ganhou" : "A rede ganhou";
  const seen = facts.learnt ? " (Ela já viu estas fotos, no treino.)" : "";
  const end = isOver ? ` Fim: ${won}, ${Math.max(you, network)} a ${Math.min(you, network)}.${seen}` : "";
  byId("verdict").textContent = `${yours === truth ? "Certo" : "Errado"}: era \u2068${facts.classes[truth]}\u2069. ${said}${end}`;
  byId("next").textContent = isOver ? "Jogar de novo" : "Próxima";
  byId("next").hidden = false;
  byId("next").focus();
}

function startGame() {
  [deck, turn, scores] = [shuffled(facts.examples).slice(0, ROUNDS), 0, { you: 0, network: 0 }];
  showScore();
  nextRound();
}

byId("play").hidden = facts.examples.length < 2;
byId("play").onclick = () => {
  byId("game").showModal();
  startGame();
};
byId("next").onclick = () => (turn < deck.length ? nextRound() : startGame());
byId("leave").onclick = () => byId("game").close();
byId("game").onclose = () => byId("play").focus({ preventScroll: true });
Object.assign(byId("riddle"), { width: facts.side, height: facts.side });
