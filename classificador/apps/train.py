"""What `treinar` and `professor` do. Heavy imports stay inside: --help needs none of them."""

from dataclasses import fields, replace


def train_command(options) -> tuple[int, dict]:
    """Train; when stopped by a signal the exit code is 128 plus its number (Ctrl-C: 130), and --retomar goes on."""
    from classificador import load_data, make_settings, processes
    from classificador.device import choose_device
    from classificador.training.fit import train
    from classificador.training.resume import read_point
    from classificador.training.run_folder import Runs

    runs, since = Runs(options.modelo), processes.restarted_since()
    left = processes.on_rank_0(lambda: runs.left_since(since) if since else "")
    if left == "finished":
        print("Este treino já tinha terminado quando um dos processos morreu; nada a fazer.")
        return 0, {}
    goes_on = options.retomar or left == "interrupted"
    earlier = processes.on_rank_0(lambda: read_point(runs).settings if goes_on else None)
    given = _given(options)
    settings = replace(earlier, **given) if earlier else make_settings(**given)
    choose_device(settings.device)  # a device that is missing is told before the data are fetched
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    _, history = train(settings, data, options.modelo, resume=goes_on)
    return _tell_outcome(history, settings, data, options.modelo)


def teacher_command(options) -> tuple[int, dict]:
    """Train the teacher of the recipe `destilado`; stopped and resumed as in train_command."""
    from classificador import build, load_data
    from classificador.network.teacher import Teacher
    from classificador.recipes import TEACHER
    from classificador.training.fit import train
    from classificador.training.resume import read_point
    from classificador.training.run_folder import Runs

    earlier = read_point(Runs(options.modelo)).settings if options.retomar else TEACHER
    settings = replace(earlier, **_given(options))
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    # The mirror image is no part of it: twice the cost for each of its many answers.
    teacher = build(replace(settings, symmetric=False), data, Teacher)
    _, history = train(settings, data, options.modelo, teacher, resume=options.retomar)
    return _tell_outcome(history, settings, data, options.modelo)


def _given(options) -> dict:
    """The settings that were given as options."""
    from classificador import Settings

    names = {field.name for field in fields(Settings)}
    return {name: value for name, value in vars(options).items() if name in names and value is not None}


def _tell_outcome(history, settings, data, path: str) -> tuple[int, dict]:
    """Say how a training went; the exit code as train_command has it."""
    from classificador.portuguese import duration, number, percent

    if history.val_accuracy:
        best, seconds = percent(history.val_accuracy[history.best], 2), duration(history.seconds[-1])
        facts = f"época {history.best + 1}, n = {number(len(data.val), 0)}{', destilado' if settings.teacher else ''}"
        print(f"Melhor acurácia de validação: {best} ({facts}), em {seconds}: {path}")
    if history.interrupted:
        print("Para continuar: o mesmo comando, com --retomar.")
    return 128 + history.interrupted if history.interrupted else 0, history.to_dict()
