"""What every slice shares: errors, rejections, the protocol of a projector."""
