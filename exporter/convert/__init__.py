"""Conversion stage: energy to grams of CO2 equivalent by grid carbon intensity."""
