"""What the network makes of a user's own picture, as one figure; and the notebook's box for such pictures."""

from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import Output, VBox
from matplotlib.figure import Figure
from PIL import Image

from classificador.data.pictures import MAX_BYTES, decode_image, open_image, to_tensor
from classificador.errors import ImageError
from classificador.files.model_info import LoadedModel
from classificador.portuguese import percent
from classificador.results.explain import occlusion_map
from classificador.results.predict import is_doubtful, predict_image
from classificador.show import figures

DOUBT = "Confiança baixa: talvez a imagem não seja de nenhuma das classes que a rede conhece."


def explain_picture(model: LoadedModel, picture: str | Path | Image.Image) -> Figure:
    """Return the picture, what the network sees of it, its three likeliest classes and where it looks, side by side.

    picture: a file, or what open_image() made of it. Raises ImageError for a bad file.
    """
    image = picture if isinstance(picture, Image.Image) else open_image(picture)
    probabilities = predict_image(model, image)
    seen = to_tensor(image, model.info.side, model.info.framing)
    target = model.info.classes.index(next(iter(probabilities)))
    warning = DOUBT if is_doubtful(model, probabilities) else ""
    return figures.own_picture(image, seen, probabilities, occlusion_map(model, seen, target), warning)


def upload_box(model: LoadedModel) -> VBox:
    """Return a box that takes pictures from the user's computer and shows explain_picture() of each, newest first."""
    from classificador.show.picture_box import (
        PictureBox,  # here: an older environment without anywidget lacks only the box
    )

    box, results = PictureBox(), VBox()
    arrived: dict[str, bytearray] = {}

    def receive(_, message: dict, buffers: list[memoryview]) -> None:
        """Take the next bytes of a file; show the file once it is whole, above what is there."""
        name = message["name"]
        if message["start"] == 0:  # anew, if an upload of this name broke off
            arrived[name] = bytearray()
        if name not in arrived:
            return  # refused at its beginning
        arrived[name].extend(buffers[0])
        too_large = message["size"] > MAX_BYTES
        if len(arrived[name]) < message["size"] and not too_large:
            return
        content = bytes(arrived.pop(name))
        output = Output()
        results.children = (output, *results.children)
        with output:
            try:
                if too_large:
                    raise ImageError(f"{name} é grande demais ({MAX_BYTES // 2**20} MB no máximo).")
                image = decode_image(content, name)
                best, probability = next(iter(predict_image(model, image).items()))
                print(f"{name}: {best}, {percent(probability)}")
                display(explain_picture(model, image))
            except ImageError as error:
                print(error)
            plt.close("all")

    box.on_msg(receive)
    return VBox([box, results])
