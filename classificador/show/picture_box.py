"""The notebook's box for pictures: the part of it that runs in the browser."""

from anywidget import AnyWidget


class PictureBox(AnyWidget):
    """The browser's own file input, for a click, the keyboard, or pictures dropped on it (ipywidgets' takes no drop).

    Sends each file in messages of its name, its size, and the next bytes with their place in it: Jupyter drops any
    message over 10 MiB.
    """

    _esm = """
    export default {
      render({ model, el }) {
        const label = document.createElement("label"), input = document.createElement("input");
        label.className = "classificador-fotos";
        label.textContent = "Arraste fotos para cá, ou clique para escolher";
        Object.assign(input, { type: "file", accept: "image/*", multiple: true });
        input.addEventListener("change", async () => {
          const piece = 4 * 2 ** 20;
          for (const file of [...input.files]) {
            for (let start = 0; start === 0 || start < file.size; start += piece) {
              const bytes = await file.slice(start, start + piece).arrayBuffer();
              model.send({ name: file.name, size: file.size, start }, undefined, [bytes]);
            }
          }
          input.value = "";
        });
        label.append(input);
        label.addEventListener("dragover", (event) => event.preventDefault());
        label.addEventListener("drop", (event) => {
          event.preventDefault();
          input.files = event.dataTransfer.files;
          input.dispatchEvent(new Event("change"));
        });
        el.append(label);
      },
    };
    """
    _css = """
    .classificador-fotos { display: block; position: relative; padding: 1.5em; text-align: center; }
    .classificador-fotos { border: 2px dashed #888; border-radius: 6px; }
    .classificador-fotos:focus-within, .classificador-fotos:hover { border-color: #0072b2; }
    .classificador-fotos input { position: absolute; inset: 0; opacity: 0; }
    """

    def __repr__(self) -> str:
        """What a front end without widgets shows; the usual text holds an address that differs in every run."""
        return "PictureBox()"
