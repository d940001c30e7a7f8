"""What every settings model is made of: the base model, rules, and text that is safe where it goes."""
