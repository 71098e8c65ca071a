"""From questions to labels: decision points, rollouts, their utilities, and the best candidates."""
