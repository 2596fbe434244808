"""Networks that Engineroom builds itself, with seeded weights: the exact architecture where no model can be had.

Such a model measures speed and tests the way from image to score. It knows nothing: it is never submittable.
"""
