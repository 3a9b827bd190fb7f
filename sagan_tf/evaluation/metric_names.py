"""Names of the metrics on the command line and in tables; imports nothing, so that `--help` is fast."""

# Names on the command line. Those of the second group are computed from images instead of features.
METRICS = ("fid", "kid", "is", "intra_fid", "precision_recall", "density_coverage")
CURVE_METRICS = ("fid", "is")  # those of a truncation curve
IMAGE_METRICS = ("ms_ssim", "nearest", "rule")

# Key in the result -> (title with Inception's features, with other features).
TITLES = {
    "frechet_distance": ("FID", "Fréchet distance"),
    "frechet_distance_at_infinity": ("FID at infinity", "Fréchet distance at infinity"),
    "kernel_distance": ("KID", "kernel distance"),
    "inception_score": ("Inception Score", "classifier score"),
    "inception_score_of_the_data": ("Inception Score of the data", "classifier score of the data"),
    "ms_ssim_within_classes": ("MS-SSIM within classes",) * 2,
    "ms_ssim_of_the_data": ("MS-SSIM of the data",) * 2,
    "nearest_picture": ("distance to the nearest image",) * 2,
    "nearest_picture_of_the_data": ("distance between images of the data",) * 2,
    "intra_frechet_distance": ("intra-FID", "intra-class Fréchet distance"),
}
