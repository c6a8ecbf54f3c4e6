"""Captions for drawn scenes. Every caption names the class; each other attribute is named with some chance.

The plain "a photo of a CLASS." is frequent, because it is the zero-shot template. Words about the condition
and the background often stand before the class, where the context words of a prompt stand.
"""

# Synonyms of the training conditions; a condition that is not listed is called by the generator's own words.
CONDITION_WORDS = {
    "clear": ["clear", "sharp", "clean"],
    "night": ["dark night", "dark", "night", "dim"],
    "fog": ["foggy", "hazy", "misty"],
    "defocus": ["blurry", "blurred", "soft"],
    "noise": ["noisy", "grainy"],
    "overexposed": ["overexposed", "very bright", "pale"],
    "vignette": ["tinted", "colour tinted"],
    "rain": ["rainy", "wet"],
    "motion": ["shaky", "moving"],
    "dusk": ["dusky", "evening"],
}
MEDIA = ["photo", "photo", "photo", "picture", "image", "shot"]
ATTRIBUTES = ["class", "colour", "pattern", "background", "condition"]


def article(words):
    """The words with "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(values, vocabulary, rng):
    """Attribute indices -> (caption, what it mentions: five booleans in the order of ATTRIBUTES)."""
    names = [vocabulary[key][value] for key, value in zip(("classes", "colours", "patterns", "backgrounds"), values)]
    name, colour, pattern, ground = names
    condition = vocabulary["conditions"][values[4]]
    stop = "." if rng.random() < 0.7 else ""
    if rng.random() < 0.2:
        return f"a photo of a {name}{stop}", (True, False, False, False, False)

    says = (True, *(rng.random() < chance for chance in (0.45, 0.3, 0.4, 0.55)))
    medium = rng.choice(MEDIA)
    words = rng.choice(CONDITION_WORDS.get(condition["name"], [condition["words"]]))
    tones = [word for word, said in ((colour, says[1]), (pattern, says[2])) if said]
    thing = " ".join((tones if rng.random() < 0.7 else tones[::-1]) + [name])
    place = ground if says[3] else None
    weather = words if says[4] else None

    style = rng.random()
    if style < 0.55:  # a dark night photo of a red mug on grass
        text = article(f"{weather} {medium}" if weather else medium) + f" of a {thing}"
        if place and rng.random() < 0.5:
            text = rng.choice([f"on {place}, {text}", f"{article(place)} {text[text.index(' ') + 1:]}"])
        elif place:
            text += rng.choice([f" on {place}", f" in front of {place}", f", {place} background"])
    elif style < 0.8:  # grass, dark night: a red mug
        lead = [word for word in (place, weather) if word]
        rng.shuffle(lead)
        text = (", ".join(lead) + rng.choice([": ", ", "]) if lead else "") + rng.choice(["a ", "one ", "the ", "this is a "]) + thing
    else:  # the mug, red, striped, on grass, dark night
        tail = tones + ([f"on {place}"] if place else []) + ([weather] if weather else [])
        text = rng.choice(["a ", "the "]) + (f"{name}, " + ", ".join(tail) if tail else name)
        if rng.random() < 0.5:
            text = f"{article(medium)} of {text}"
    return text + stop, says
