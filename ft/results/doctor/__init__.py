"""The data doctor: what is wrong with a data set, one finding a file, worst first.

``doctor.json`` (``RUN/doctor.json`` of ``run=RUN``, else ``OUTPUT/doctor.json``), for reports and other tools::

    {
      "task": "classification" | "multilabel" | "regression",
      "images": {split: n},               readable ones
      "counts": {split: {class: n}},      images that have the label; no classes for regression
      "input": {"width": 224, "height": 224},     pixels that the model sees
      "findings": [
        {
          "kind": str,                    see below
          "severity": "error" | "warning" | "info",
          "title": str,                   one line for people, with the count in it
          "count": int,                   of all items; ``items`` has all of them
          "items": [{...}]                keys by kind, see below
        }
      ],                                  errors first, in the order of the table below
      "skipped": [str],                   one line for each check that was not done: which, and why
      "pictures": {"duplicates": "doctor/duplicates.png", "labels": "doctor/labels.png"},
                                          relative to doctor.json; only those that were drawn
      "seconds": float
    }

A FILE is ``{"split": str, "file": str, "label": str | null}``: the name as the data set gives it, below its root.

    kind                 severity        an item
    leakage              error           {"same": "bytes" | "pixels", "files": [FILE, FILE, ...]}   in several splits
    conflicting_labels   error           likewise                                      identical, labelled differently
    unreadable           error           {"file": str, "why": str}
    near_leakage         warning         {"same": "nearly", "likeness": 0.998, "files": [...]}
    near_conflicts       warning         likewise
    suspicious_labels    warning         {**FILE, "suggested": str, "quality": 0.02}   P(given label)
    missing_classes      warning         {"split": str, "class": str}
    small_classes        warning         {"class": str, "count": int}                          of the training split
    imbalance            warning         {"class": str, "count": int, "share": 0.05}           of the training split
    small_images         info            {**FILE, "width": int, "height": int}         smaller than the input: upscaled
    extreme_shapes       info            likewise                                      much of them is cropped away
    duplicates           info            as leakage; in one split and with one label
    near_duplicates      info            as near_leakage; likewise
    modes                info            {"mode": "CMYK", "count": int, "example": FILE}

Suspicious labels come with the least likely first. A kind without items is left out.
"""
