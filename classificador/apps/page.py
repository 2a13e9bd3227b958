"""The local web page that does with a picture what the notebook's last section does: `python -m classificador demo`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from importlib.resources import files
from os import environ
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from classificador.data.dataset import CLASSES
from classificador.data.pictures import MAX_BYTES, open_image
from classificador.errors import ClassificadorError, ImageError
from classificador.files.model_info import LoadedModel
from classificador.portuguese import percent
from classificador.results.predict import is_doubtful, predict_image
from classificador.show.own_pictures import DOUBT, explain_picture

try:
    import gradio
except ImportError as error:
    raise ClassificadorError('A página precisa do gradio: python -m pip install -e ".[demo]"') from error

ADDRESS = "127.0.0.1"  # this machine only
# CIFAR-10 test images, the first of their classes; and a photo of none, which comes with scikit-learn.
EXAMPLES = [*sorted((Path(__file__).parents[2] / "docs" / "fotos").glob("*.png"))]
EXAMPLES += [Path(str(files("sklearn.datasets.images") / "flower.jpg"))]
# Gradio's own words come in the browser's language; where that is English, these take their place.
WORDS = {
    "upload_text.drop_file": "Solte uma foto aqui",
    "common.or": "ou",
    "upload_text.click_to_upload": "Clique para escolher",
    "common.clear": "Limpar",
}
HEAD = '<script>document.documentElement.lang = "pt-BR"</script>'  # for screen readers


def build_page(model: LoadedModel) -> gradio.Blocks:
    """Return the page for a model that load_model() returned."""

    def answer(path: str | None) -> tuple[str, gradio.Plot]:
        """What the network says of the picture in a file, as text and as a figure; nothing for no file."""
        if path is None:
            return "", gradio.Plot(visible=False)
        try:
            image = open_image(path)
        except ImageError as error:
            return f"**{escape(str(error).replace(str(path), Path(path).name))}**", gradio.Plot(visible=False)
        probabilities = predict_image(model, image)
        (best, sure), *others = list(probabilities.items())[:3]
        text = f"## {escape(best)}, {percent(sure)}\n\n"
        text += "Depois: " + "; ".join(f"{escape(name)}, {percent(value)}" for name, value in others) + "."
        if is_doubtful(model, probabilities):
            text += f"\n\n**⚠ {DOUBT}**"
        figure = explain_picture(model, image)
        plt.close(figure)  # Gradio draws it; pyplot need not keep it
        return text, gradio.Plot(figure, visible=True)

    classes = list(model.info.classes)
    with gradio.Blocks(title="Classificador de imagens", analytics_enabled=False) as page:
        gradio.Markdown(
            "# Classificador de imagens\n\nDê uma foto à rede, e ela diz qual das classes que conhece vê nela: "
            f"{', '.join(map(escape, classes))}. A rede sempre escolhe uma delas, mesmo que a foto não mostre "
            "nenhuma. A foto não sai deste computador, e é esquecida quando a página se encerra."
        )
        with gradio.Row():
            picture = gradio.File(label="Sua foto", type="filepath", height=160)
            text = gradio.Markdown(label="Resposta")
        figure = gradio.Plot(show_label=False, visible=False)
        picture.change(answer, picture, [text, figure], show_progress="minimal", api_name="prever")
        if tuple(classes) == CLASSES:
            gallery = gradio.Dataset(
                components=[gradio.Image(render=False)],
                samples=[[str(path)] for path in EXAMPLES],
                label="Exemplos: seis imagens de teste do CIFAR-10, e uma flor, que não é de nenhuma das classes",
                type="index",
            )
            gallery.click(lambda index: str(EXAMPLES[index]), gallery, picture, show_progress="hidden")
    return page


@contextmanager
def serve(model: LoadedModel, port: int | None = None) -> Iterator[str]:
    """Serve the page on this machine while the context lasts, and yield its address; pictures are forgotten after.

    port: by default the first free one from 7860. Raises ClassificadorError if it is taken.
    """
    matplotlib.use("Agg")  # the figures are made in Gradio's threads, where a window could not be opened
    with tempfile.TemporaryDirectory(prefix="classificador-") as folder:
        environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(model)
        try:
            _, address, _ = page.launch(
                server_name=ADDRESS,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                inline=False,
                footer_links=[],
                i18n=gradio.I18n(en=WORDS),
                max_file_size=MAX_BYTES,
                allowed_paths=[str(path) for path in EXAMPLES],
                head=HEAD,
                theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css="footer {display: none}",
            )
        except OSError as error:
            raise ClassificadorError(f"A porta {port} está ocupada. Dê outra com --porta.") from error
        try:
            yield address
        finally:
            page.close()
