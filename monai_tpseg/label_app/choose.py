"""Selection of the image to label next: the one with the worst expected mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["worst_first"]


def worst_first(
    images: Sequence[str], known: Mapping[str, float], expect: Callable[[str], float | None], limit: int
) -> tuple[list[str], dict[str, float]]:
    """Order images by the Dice that their masks are expected to have, the lowest first.

    Args:
        images: without a label.
        known: image -> expected Dice, from earlier calls with the same weights.
        expect: segments an image; None where its Dice cannot be expected.
        limit: images that are segmented in this call at most.

    Returns:
        the images, those that nothing is known of last, and what is known now.
    """
    found = {image: known[image] for image in images if image in known}
    for image in [image for image in images if image not in found][:limit]:
        value = expect(image)
        if value is not None:
            found[image] = value
    return sorted(images, key=lambda image: found.get(image, 1.0)), found
