"""Generated names of runs: an adjective, an animal, a number."""

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """
    able agile amber ample apt azure balmy bold brave breezy bright brisk bronze calm candid careful cheery clean
    clear clever cobalt cool copper coral cosmic crisp curious dapper daring deft eager early easy elegant epic fair
    famous fancy fast fine fleet fluffy fond frank free fresh frosty gallant gentle gilded glad golden grand great
    handy happy hardy hearty honest humble indigo ivory jolly jovial keen kind lively loyal lucid lucky lunar mellow
    merry mighty mild misty modest neat nimble noble olive open opal orderly patient pearly placid plucky polite
    proud quick quiet rapid rare ready regal robust rosy royal rustic sage salty serene sharp shiny silent silver
    sincere sleek smart smooth snowy solar solid spry stable steady stellar sturdy subtle sunny sure swift tidy
    trusty upbeat valiant vast velvet vivid warm wise witty worthy zesty
    """
)
ANIMALS = _words(
    """
    alpaca ant antelope auk badger bat bear beaver bee beetle bison boar bobcat buffalo camel caribou cat cheetah
    chipmunk cod condor coyote crab crane cricket crow deer dingo dolphin donkey dove duck eagle eel egret elk emu
    ermine falcon ferret finch firefly fox frog gazelle gecko gibbon giraffe gnu goat goose grouse gull hamster hare
    hawk hedgehog heron hippo hornet horse hound ibex ibis iguana impala jackal jaguar jay kestrel kiwi koala koi
    lark lemming lemur leopard lion llama lobster lynx macaw magpie mallard manatee marmot marten mole moose moth
    mouse mule newt octopus okapi orca oriole osprey ostrich otter owl ox oyster panda panther parrot pelican
    penguin perch pheasant pigeon pika plover pony puffin puma quail rabbit raccoon ram raven robin salmon seal
    shark sheep shrew shrimp skunk sloth snail snipe sparrow squid squirrel stag stoat stork swan swift tapir tern
    thrush tiger toad trout tuna turtle viper vole walrus wasp weasel whale wolf wombat wren yak zebra
    """
)


def run_name(rng: random.Random) -> str:
    """Generate a name such as `brisk-otter-417`: lower case, at most 20 characters, like MLflow's.

    There are about 21 million. Names need not be unique.
    """
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(ANIMALS)}-{rng.randrange(1000)}"
