"""The paper's tables and figures, and studies of questions that it leaves open."""
