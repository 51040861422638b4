"""A trained model at work: what computes logits, what they mean, and what a run has said of its images.

In a notebook::

    from pathlib import Path
    from PIL import Image
    from ft.build.trained import load_predictor
    from ft.inference.predict_images import describe, predict_images
    from ft.run_folder import RunFolder

    predictor = load_predictor(RunFolder(Path("runs/last")), device="auto")   # or ft.deploy.load.load_exported
    told = predict_images(predictor, [Image.open("cat.jpg")])                 # (N, K) probabilities
    describe(predictor.reading, told[0])   # {"label": "cat", "probability": 0.98, "top_k": [...]}

Files, decoded by worker processes and never all in memory::

    from ft.inference.inputs import find_images
    from ft.inference.predict_files import predict_files
    from ft.inference.tta import Views

    images, views = find_images("photos"), Views(predictor.transform, tta="flip")
    for batch in predict_files(predictor, images, views=views, batch_size=64, num_workers=2):
        batch.names, batch.told            # B names and (B, K); batch.failures could not be read
"""
