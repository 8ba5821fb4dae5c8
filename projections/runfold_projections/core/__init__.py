"""What all slices share: what they declare, the base of projectors and histories, rejections, errors."""
