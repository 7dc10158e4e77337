"""Tables, figures and the HTML report. Knows everything below it; nothing below knows it."""
