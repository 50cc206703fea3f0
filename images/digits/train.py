"""Trains the classifier on scikit-learn's digits and writes model.pkl; always the same one.

`train.py --held-out N` prints N pictures that it was not trained on, as JSON: [{"digit": 3, "png": BASE64}, ...].
"""

import argparse
import base64
import json
import pickle
import sys

from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import images

SEED = 20210401


def split():
    """Training pictures, held-out pictures, and what they show: a fifth is held out, as many of each digit."""
    digits = load_digits()
    return train_test_split(digits.data, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target)


def train() -> dict:
    """The classifier with what /info says about it."""
    known, held_out, known_digits, held_out_digits = split()
    # The machine itself gives no probabilities: they are fitted to what it says in cross-validation.
    model = CalibratedClassifierCV(SVC(C=10, gamma=0.001, random_state=SEED), ensemble=False)
    model.fit(known, known_digits)
    return {
        "model": model,
        "info": {
            "model": "support vector classifier on scikit-learn's digits",
            "seed": SEED,
            "trained_on": len(known),
            "held_out": len(held_out),
            "accuracy": round(float(model.score(held_out, held_out_digits)), 4),
        },
    }


def held_out(count: int) -> list[dict]:
    """The first pictures of the held-out fifth."""
    _, pictures, _, digits = split()
    return [
        {"digit": int(digit), "png": base64.b64encode(images.png(picture)).decode()}
        for picture, digit in zip(pictures[:count], digits[:count], strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=int, metavar="N")
    count = parser.parse_args().held_out
    if count is not None:
        lines = ",\n".join(json.dumps(picture) for picture in held_out(count))
        print(f"[\n{lines}\n]")
        return
    trained = train()
    with open("model.pkl", "wb") as file:
        pickle.dump(trained, file)
    print(json.dumps(trained["info"]), file=sys.stderr)


if __name__ == "__main__":
    main()
