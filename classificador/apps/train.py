"""What trains: `treinar`, `professor` and `caderno`. Heavy imports stay inside: --help needs none of them."""

import argparse
import os
from dataclasses import fields, replace
from typing import Any

from classificador.apps.arguments import DATA, MODEL, add_command, path_argument

RECIPES = "relampago, rapido, completo ou destilado (padrão: rapido)"


def add_commands(commands) -> None:
    """Add the three commands. The `dest` of an option that goes into a field of Settings is the field's name."""
    both = argparse.ArgumentParser(add_help=False)
    add = both.add_argument
    text = "passagens pelas imagens de treino (padrão: o da receita)"
    add("--epocas", metavar="N", type=int, dest="epochs", help=text)
    add("--lote", metavar="N", type=int, dest="batch_size", help="imagens por passo (padrão: o da receita)")
    text = "semente do sorteio; a mesma, na mesma CPU, dá os mesmos pesos (padrão: 42)"
    add("--semente", metavar="N", type=int, dest="seed", help=text)
    add("--dispositivo", metavar="D", dest="device", help="auto, cpu, cuda ou mps (padrão: auto)")
    add("--retomar", action="store_true", help="continua o treino interrompido de --modelo, com as opções dele")
    text = "não espelha as imagens: para letras, números e o que muda de sentido no espelho"
    add("--sem-espelho", action="store_const", const=False, dest="symmetric", help=text)
    text = "pixels a que imagens suas são reduzidas: 32, 48, 64 ou 96 (padrão: %(default)s)"
    add("--lado", metavar="N", type=int, default=32, help=text)
    text = "de cada imagem sua, o centro, ou a inteira, sobre fundo branco: centro, inteira (padrão: %(default)s)"
    add("--enquadrar", metavar="MODO", default="centro", help=text)

    text = "treina a rede, e guarda os pesos da melhor época ou, com poucas imagens, os que se calculam de todas"
    add = add_command(commands, "treinar", train_command, text, both, DATA, MODEL).add_argument
    add("--receita", metavar="NOME", dest="preset", help=RECIPES)
    add("--lr", metavar="X", type=float, dest="lr", help="taxa de aprendizado máxima do Adam (padrão: a da receita)")
    text = "o modelo treinado de cujos pesos partir; zero: de nenhum (padrão: best_model.pth, para classes suas)"
    add("--partir-de", metavar="ARQUIVO", dest="start_from", help=text)
    text = "o professor da receita destilado (padrão: professor.pth)"
    add("--professor", metavar="ARQUIVO", type=path_argument, dest="teacher", help=text)

    text = "treina a rede mais funda de cujas respostas a receita destilado aprende"
    add = add_command(commands, "professor", teacher_command, text, both, DATA).add_argument
    text = "os pesos (padrão: %(default)s)"
    add("--modelo", metavar="ARQUIVO", type=path_argument, default="professor.pth", help=text)

    text = "executa o Pytorch.ipynb de cima a baixo e guarda em runs/ o que ele mostra"
    add = add_command(commands, "caderno", notebook_command, text).add_argument
    add("--predicao", action="store_true", help="só a seção de predição, com o modelo que existe")
    add("--receita", metavar="NOME", dest="preset", help=RECIPES)
    add("--retomar", action="store_true", help="continua o treino interrompido: RESUME = True")
    add("--gravar", action="store_true", help="grava as saídas também no Pytorch.ipynb")
    add("--modelo", metavar="ARQUIVO", type=path_argument, help="os pesos, no lugar dos que o caderno diz: CHECKPOINT")
    add("--dados", metavar="CAMINHO", type=path_argument, help="os dados, no lugar dos que o caderno diz: DATA_DIR")


def train_command(options, defaults=None, network=None) -> tuple[int, dict]:
    """Train; when stopped by a signal the exit code is 128 plus its number (Ctrl-C: 130), and --retomar goes on.

    defaults: the Settings that options change, of a training that does not go on from another; None: the recipe's.
    network: the class to train; None: the project's own.
    """
    from classificador import Settings, build, load_data, make_settings, processes
    from classificador.device import choose_device
    from classificador.training.fit import train
    from classificador.training.resume import read_resume_point
    from classificador.training.run_folder import Runs

    runs, since = Runs(options.modelo), processes.restarted_since()
    left = processes.on_rank_0(lambda: runs.left_since(since) if since else "")
    if left == "finished":
        print("Este treino já tinha terminado quando um dos processos morreu; nada a fazer.")
        return 0, {}
    processes.on_rank_0(runs.check)  # before the data are read, which may take minutes
    goes_on = options.retomar or left == "interrupted"
    earlier = processes.on_rank_0(lambda: read_resume_point(runs).settings if goes_on else defaults)
    names = {field.name for field in fields(Settings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    settings = replace(earlier, **given) if earlier else make_settings(**given)
    choose_device(settings.device)  # a device that is missing is told before the data are fetched
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    # The mirror image is no part of another network: twice the cost for each of a teacher's many answers.
    model = build(replace(settings, symmetric=False), data, network) if network else None
    model, history = train(settings, data, options.modelo, model, resume=goes_on)
    _tell_outcome(model, history, settings, data, options.modelo)
    return 128 + history.interrupted if history.interrupted else 0, history.state_dict()


def teacher_command(options) -> tuple[int, dict]:
    """Train the teacher of the recipe `destilado`; stopped and resumed as in train_command."""
    from classificador.network.teacher import Teacher
    from classificador.recipes import TEACHER

    return train_command(options, TEACHER, Teacher)


def notebook_command(options) -> tuple[int, dict]:
    """Run the notebook as a whole, or its prediction section."""
    from classificador.apps.notebook import run_notebook
    from classificador.files.model_file import read_checkpoint

    if options.predicao and options.modelo:
        read_checkpoint(options.modelo)  # which tells what is wrong with it at once
    paths = {"CHECKPOINT": options.modelo, "DATA_DIR": options.dados}
    values: dict[str, Any] = {name: os.path.abspath(place) for name, place in paths.items() if place}
    values |= {name: value for name, value in (("PRESET", options.preset), ("RESUME", options.retomar)) if value}
    return 0, run_notebook(options.predicao, values, options.gravar)


def _tell_outcome(model, history, settings, data, path: str) -> None:
    """Say how a training went."""
    from classificador import evaluate
    from classificador.portuguese import duration, number, percent
    from classificador.training.run_folder import Runs

    if history.val_accuracy and not history.steps:  # from few pictures
        report = evaluate(model, data.test, data.classes)
        print(f"{report.summary()}\nEm {duration(history.seconds[-1])}: {path}")
    elif history.val_accuracy:
        best, seconds = percent(history.val_accuracy[history.best], 2), duration(history.seconds[-1])
        details = f"época {history.best + 1}, n = {number(len(data.val), 0)}{', destilado' if settings.teacher else ''}"
        print(f"Melhor acurácia de validação: {best} ({details}), em {seconds}: {path}")
    if history.interrupted and Runs(path).interrupted():
        print("Para continuar: o mesmo comando, com --retomar.")
