"""convert: from energy to grams of CO2 equivalent."""
