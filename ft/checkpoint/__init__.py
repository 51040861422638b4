"""A checkpoint is a folder: weights as safetensors, the rest without pickled code, a manifest that proves both.

best/  weights.safetensors   every tensor of the model
       state.pt              optimizer, schedule, loop, callbacks, sampler (read with weights_only=True)
       manifest.json         sha256 and size of both and of itself, versions, epoch, step, config, parent

``best`` and ``last`` are links to numbered folders; see ``generations``.
"""
