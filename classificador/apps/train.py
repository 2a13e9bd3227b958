"""What `treinar` and `professor` do. Heavy imports stay inside: --help needs none of them."""

from dataclasses import fields, replace


def train_command(options) -> tuple[int, dict]:
    """Train; when stopped by a signal the exit code is 128 plus its number (Ctrl-C: 130), and --retomar goes on."""
    from classificador import CNN, build, find_start, load_data, make_settings, processes
    from classificador.device import choose_device
    from classificador.network.build import network_sizes
    from classificador.training.resume import check_network, left_by_job, read_resume

    restarted = processes.restarted()
    left = processes.from_first(lambda: left_by_job(options.modelo, restarted))
    if left == "finished":
        print("Este treino já tinha terminado quando um dos processos morreu; nada a fazer.")
        return 0, {}
    goes_on = options.retomar or left == "interrupted"
    earlier = processes.from_first(lambda: read_resume(options.modelo).settings if goes_on else None)
    given = _given(options)
    settings = replace(earlier, **given) if earlier else make_settings(**given)
    choose_device(settings.device)  # a device that is missing is told before the data are fetched
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    start = processes.from_first(lambda: find_start(settings.start_from, data.classes))
    if goes_on:
        sizes = network_sizes(settings, data, start)
        processes.from_first(lambda: check_network(options.modelo, settings, sizes, data.classes))
    model = build(settings, data, CNN, start)
    return _train(model, data, settings, options.modelo, resume=goes_on)


def teacher_command(options) -> tuple[int, dict]:
    """Train the teacher of the recipe `destilado`; stopped and resumed as in train_command."""
    from classificador import build, load_data
    from classificador.network.teacher import Teacher
    from classificador.recipes import TEACHER
    from classificador.training.resume import read_resume

    earlier = read_resume(options.modelo).settings if options.retomar else None
    settings = replace(earlier or TEACHER, **_given(options))
    data = load_data(options.dados, options.fonte, options.lado, options.enquadrar)
    # The mirror image is no part of it: twice the cost for each of its many answers.
    teacher = build(replace(settings, symmetric=False), data, Teacher)
    return _train(teacher, data, settings, options.modelo, options.retomar)


def _given(options) -> dict:
    """The settings that were given as options."""
    from classificador import Settings

    names = {field.name for field in fields(Settings)}
    return {name: value for name, value in vars(options).items() if name in names and value is not None}


def _train(model, data, settings, path: str, resume: bool) -> tuple[int, dict]:
    """Train and say how it went; the exit code as train_command has it."""
    from torch import nn

    from classificador import fit, make_optimizer
    from classificador.portuguese import duration, number, percent

    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    history = fit(model, data, criterion, make_optimizer(model, settings), settings, path, resume=resume)
    if history.val_accuracy:
        best, seconds = percent(history.val_accuracy[history.best], 2), duration(history.seconds[-1])
        facts = f"época {history.best + 1}, n = {number(len(data.val), 0)}{', destilado' if settings.teacher else ''}"
        print(f"Melhor acurácia de validação: {best} ({facts}), em {seconds}: {path}")
    if history.interrupted:
        print("Para continuar: o mesmo comando, com --retomar.")
    return 128 + history.interrupted if history.interrupted else 0, history.to_dict()
