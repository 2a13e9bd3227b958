"""What the network makes of a user's own picture, as one figure; and the notebook's upload button."""

from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import FileUpload, Output, VBox
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from classificador import plots
from classificador.errors import ImageError
from classificador.explain import occlusion_map
from classificador.images import decode_image, open_image, to_tensor
from classificador.inference import is_doubtful, predict_image

DOUBT = "Confiança baixa: talvez a imagem não seja de nenhuma das classes que a rede conhece."


def explain_picture(model: nn.Module, picture: str | Path | Image.Image) -> Figure:
    """Return the picture, what the network sees of it, its three likeliest classes and where it looks, side by side.

    picture: a file, or what open_image() made of it. Raises ImageError for a bad file.
    """
    image = picture if isinstance(picture, Image.Image) else open_image(picture)
    probabilities = predict_image(model, image)
    seen = to_tensor(image, model.info["architecture"].get("side", 32))
    target = model.info["classes"].index(next(iter(probabilities)))
    warning = DOUBT if is_doubtful(model, probabilities) else ""
    return plots.own_picture(image, seen, probabilities, occlusion_map(model, seen, target), warning)


def upload_button(model: nn.Module) -> VBox:
    """Return a button that takes pictures from the user's computer and shows explain_picture() of each below it."""
    button = FileUpload(accept="image/*", multiple=True, description="Escolher fotos", layout={"width": "12em"})
    results = Output()

    def show(change) -> None:
        """Replace what is shown by the files just chosen."""
        results.clear_output()
        with results:
            for file in change["new"]:
                try:
                    display(explain_picture(model, decode_image(bytes(file["content"]), file["name"])))
                except ImageError as error:
                    print(error)
                plt.close("all")

    button.observe(show, "value")
    return VBox([button, results])
