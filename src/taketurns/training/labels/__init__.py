"""From questions to labels: decision points, rollouts, their scores, and who should write next."""
