"""Run names that nobody chose: adjective-animal-123."""

import random


def _words(text: str) -> list[str]:
    return text.split()


_ADJECTIVES = _words(
    "amber brave bright calm candid clever crisp deft eager fair fleet fond frank glad gentle golden grand hardy honest "
    "humble jolly keen kind lively loyal lucid mellow merry mild neat nimble noble patient placid plucky polite proud quick "
    "quiet rapid serene sharp shy silent sincere sleek smart snug solid spry stable steady stout sunny swift tidy tough "
    "trusty upbeat valiant vivid warm wise witty young zesty"
)
_ANIMALS = _words(
    "ant auk bat bear bee boar calf carp cat cod colt crab crane crow deer doe dove duck eel elk ewe falcon fawn finch fish "
    "foal fox frog gnu goat goose grouse gull hare hawk hen heron horse hound ibex jay kite koi lamb lark lion loon lynx mare "
    "mink mole moose moth mouse mule newt orca otter owl ox panda perch pike pony pug quail ram rat raven robin rook seal "
    "shad shark sheep shrew shrike skink sloth snail snipe sole stag stoat stork swan tern toad trout tuna vole wasp whale "
    "wolf wren yak zebra"
)


def random_name(source: random.Random | None = None) -> str:
    """A name of at most 20 characters, as MLflow's form has it. It need not be unique."""
    pick = source or random.SystemRandom()
    return f"{pick.choice(_ADJECTIVES)}-{pick.choice(_ANIMALS)}-{pick.randrange(1000)}"
