"""Words: WordNet 3.0's nouns of things that can be seen, ImageNet's classes among them, and what lies above them.

Usage: from words import Words      (Debian's package `wordnet-base`: /usr/share/wordnet/data.noun)
"""

import re
from pathlib import Path

SEEN = {3: "tops", 5: "animal", 6: "artifact", 8: "body", 13: "food", 15: "location", 17: "object", 18: "person", 19: "phenomenon",
        20: "plant", 27: "substance"}
# Too wide to be seen: no picture is labelled with these.
VAGUE = set("""entity,physical entity,object,whole,artifact,living thing,organism,instrumentality,matter,unit,thing,abstraction,causal agent,
conveyance,device,substance,chordate,vertebrate,placental,carnivore,canine,abstract entity,psychological feature,covering,consumer goods,
commodity,way,area,structure,container,relation,part,solid,attribute,foodstuff,eutherian,diapsid,anapsid,implement,equipment,mechanism,
instrument,vascular plant,reproductive structure,plant organ,plant part,natural object,food,nutriment,produce,solid food,
protective covering,invertebrate,work,product,creation,feline,aquatic vertebrate,arthropod,durables,worker,person,location,region,
cleaning implement,facility,way,passerine,oscine,herb,woody plant""".replace("\n", "").split(","))


class Synset:
    """One line of data.noun: its words, what lies directly above it, and what it means."""

    def __init__(self, line):
        head, _, gloss = line.partition("|")
        fields = head.split()
        count = int(fields[3], 16)
        self.offset, self.file = fields[0], int(fields[1])
        self.words = [fields[4 + 2 * k].replace("_", " ") for k in range(count)]
        pointers = fields[4 + 2 * count :]
        kinds = [pointers[1 + 4 * k] for k in range(int(pointers[0]))]
        self.above = [pointers[2 + 4 * k] for k, kind in enumerate(kinds) if kind == "@"]
        self.instance = "@i" in kinds
        self.gloss = gloss.strip().split(";")[0]


class Words:
    def __init__(self, wordnet, labels):
        lines = Path(wordnet).read_text(encoding="latin-1").splitlines()
        self.synsets = {s.offset: s for s in (Synset(line) for line in lines if not line.startswith("  "))}
        self.imagenet = self.classes(Path(labels).read_text().strip().split("\n")[1:])
        self.nouns = {}
        for synset in self.synsets.values():
            if synset.file not in SEEN or synset.instance:
                continue
            rare = SEEN[synset.file] in ("plant", "person", "location")
            for word in synset.words[: 2 if rare else 4]:
                if re.fullmatch(r"[a-z][a-z' -]{1,24}", word) and len(word.split()) <= 3:
                    self.nouns.setdefault(word, synset)

    def classes(self, labels):
        """The synsets of ImageNet's classes, which stand in the order of their offsets."""
        known, found, last = {}, [], ""
        for offset, synset in sorted(self.synsets.items()):
            known.setdefault(", ".join(synset.words).lower(), []).append(offset)
        for label in labels:
            offset = next((o for o in known.get(label.lower(), []) if o > last), None)
            if offset is None:  # spelt otherwise there
                first = label.split(",")[0].lower()
                offset = next(o for o, s in sorted(self.synsets.items()) if o > last and s.words[0].lower() == first)
            found.append(self.synsets[offset])
            last = offset
        return found

    def chain(self, synset):
        """The names above a synset that can be seen, nearest first."""
        names = []
        while synset.above:
            synset = self.synsets[synset.above[0]]
            if synset.words[0].lower() not in VAGUE:
                names.append(synset.words[0])
        return names

    def rich(self, word, synset):
        """A word with what it is and what it means, as the text teacher reads it."""
        above = ", ".join(self.chain(synset)[:2])
        return f"{word}, {above}: {synset.gloss[:90]}" if above else f"{word}: {synset.gloss[:90]}"
