"""Plain facts that several rooms need, in a file that imports nothing, so that to know them costs nothing."""

# CIFAR-10's ten classes, by label.
CLASSES = ("Avião", "Automóvel", "Pássaro", "Gato", "Cervo", "Cachorro", "Sapo", "Cavalo", "Navio", "Caminhão")
SIDES = (32, 48, 64, 96)  # of pictures, pixels; with more the first linear layer would dwarf the rest
FRAMINGS = ("centro", "inteira")  # of a picture that is not square: its central square, or all of it on white
