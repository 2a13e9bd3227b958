"""What the network makes of a user's own picture, as one figure; and the notebook's box for such pictures."""

from typing import Any

from anywidget import AnyWidget
from IPython.display import display
from ipywidgets import Output, VBox
from torch import nn

from classificador.data.pictures import MAX_BYTES, as_image, decode_image, to_tensor
from classificador.errors import ImageError
from classificador.network.model_info import info_of
from classificador.portuguese import percent
from classificador.results.explain import occlusion_map
from classificador.results.predict import is_doubtful, predict_image
from classificador.show.style import BLUE, ORANGE, Described, show, show_heat, styled, subplots

DOUBT = "Menos segura que de costume: a rede hesita, ou a imagem não é de nenhuma das classes que ela conhece."


@styled("A imagem, o que a rede vê dela, as respostas mais prováveis e de onde elas vêm")
def explain_picture(model: nn.Module, picture: Any) -> Described:
    """Return the picture, what the network sees of it, its three likeliest classes and where it looks, side by side.

    picture: a file, Pillow's image, or pixels, as in as_image(). Raises ImageError for what is none.
    """
    image = as_image(picture)
    probabilities = predict_image(model, image)
    classes, values = zip(*list(probabilities.items())[:3], strict=True)
    seen = to_tensor(image, info_of(model).side, info_of(model).framing)
    heat = occlusion_map(model, seen, info_of(model).classes.index(classes[0]))
    look = {"figsize": (9, 2.4), "width_ratios": (1, 1, 1.3, 1)}
    figure, (whole, square, bars, where), names = subplots(classes, "", 1, 4, **look)

    smaller = min(1, 400 / max(image.size))  # not 50 megapixels
    whole.imshow(image.resize([max(1, round(length * smaller)) for length in image.size]))
    whole.set_title("a imagem")
    whole.axis("off")

    show(square, seen, f"o que a rede vê ({info_of(model).side}×{info_of(model).side})")

    drawn = bars.barh(names, values, color=[BLUE, "#999999", "#999999"][: len(names)])
    bars.bar_label(drawn, [percent(value, 0) for value in values], padding=3)
    bars.set(xlim=(0, 1.25), xticks=[], title="a resposta")
    bars.invert_yaxis()
    bars.spines["bottom"].set_visible(False)
    bars.tick_params(length=0)

    show_heat(where, seen, heat)
    where.set_title("de onde ela vem")
    if is_doubtful(model, probabilities):
        figure.supxlabel(f"⚠ {DOUBT}", color=ORANGE, weight="bold", fontsize=10)
    return figure


class PictureBox(AnyWidget):
    """The browser's own file input, for a click, the keyboard, or pictures dropped on it (ipywidgets' takes no drop).

    Sends each file in messages of its name, its size, and the next bytes with their place in it, and waits for an
    answer to each: Jupyter drops any message over 10 MiB, and other ways to a kernel, as Colab's, over 1 MiB.
    """

    _esm = """
    export default {
      render({ model, el }) {
        const label = document.createElement("label"), input = document.createElement("input");
        const status = document.createElement("p");
        let answered = () => {};
        model.on("msg:custom", () => answered("here"));
        label.className = "classificador-fotos";
        label.textContent = "Arraste fotos para cá, ou clique para escolher";
        Object.assign(input, { type: "file", accept: "image/*", multiple: true });
        const waiting = [];
        let isSending = false, isLate = false;
        const send = async () => {
          const piece = 2 ** 18, unread = [];
          while (waiting.length) {
            const file = waiting.shift();
            status.textContent = `Recebendo ${file.name}…`;
            for (let start = 0; start === 0 || start < file.size; start += piece) {
              const bytes = await file.slice(start, start + piece).arrayBuffer().catch(() => null);
              if (!bytes) {
                unread.push(file.name);
                break;
              }
              const arrived = new Promise((resolve) => { answered = resolve; });
              const timer = setTimeout(() => {
                isLate = true;
                const more = waiting.length ? ` Esperam por ela: ${waiting.map(({ name }) => name).join(", ")}.` : "";
                const why = "o kernel está ocupado, e ela virá depois, ou a conexão a reteve: solte-a de novo.";
                status.textContent = `A foto ${file.name} ainda não chegou: ${why}${more}`;
              }, 10_000);
              model.send({ name: file.name, size: file.size, start }, undefined, [bytes]);
              const how = await arrived;
              clearTimeout(timer);
              isLate = false;
              if (how === "given up") {
                if (file.size > piece) waiting.push(file); // of one piece all is on its way
                break;
              }
            }
          }
          status.textContent = unread.length ? `Não pôde ser lido: ${unread.join(", ")}` : "";
        };
        const take = async (files) => {
          waiting.push(...files);
          if (isLate) answered("given up"); // what comes after it may arrive
          if (isSending) return; // they have their turn
          isSending = true;
          await send().finally(() => { isSending = false; });
        };
        input.addEventListener("change", () => {
          take(input.files);
          input.value = ""; // the same file can be chosen again
        });
        label.append(input);
        label.addEventListener("dragover", (event) => event.preventDefault());
        label.addEventListener("drop", (event) => {
          event.preventDefault();
          take(event.dataTransfer.files);
        });
        el.append(label, status);
      },
    };
    """
    _css = """
    .classificador-fotos { display: block; position: relative; padding: 1.5em; text-align: center; }
    .classificador-fotos { border: 2px dashed #888; border-radius: 6px; }
    .classificador-fotos:focus-within, .classificador-fotos:hover { border-color: #0072b2; }
    .classificador-fotos input { position: absolute; inset: 0; opacity: 0; }
    """


class UploadBox(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The box and, below it, what the network makes of each picture."""

    def __repr__(self) -> str:
        """What stands in its place where no kernel is: on paper, on GitHub, in a notebook that was only opened."""
        return "Aqui se arrastam fotos, depois de executar esta célula."


def upload_box(model: nn.Module) -> UploadBox:
    """Return a box that takes pictures from the user's computer and shows explain_picture() of each, newest first."""
    box, results = PictureBox(), VBox()
    arrived: dict[str, bytearray] = {}

    def receive(_: object, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """Take the next bytes of a file; show the file once it is whole, above what is there."""
        box.send("here")
        name, size = message["name"], message["size"]
        if message["start"] == 0:  # anew, if an upload of this name broke off
            arrived[name] = bytearray()
        if name not in arrived:
            return  # refused at its beginning
        arrived[name].extend(buffers[0])
        if len(arrived[name]) < size <= MAX_BYTES:
            return
        content = bytes(arrived.pop(name))
        output = Output()
        results.children = (output, *results.children)
        with output:
            try:
                if size > MAX_BYTES:
                    raise ImageError(f"{name} é grande demais ({MAX_BYTES // 2**20} MB no máximo).")
                image = decode_image(content, name)
                best, probability = next(iter(predict_image(model, image).items()))
                print(f"{name}: {best}, {percent(probability)}")
                display(explain_picture(model, image))
            except ImageError as error:
                print(error)

    box.on_msg(receive)
    return UploadBox([box, results])
