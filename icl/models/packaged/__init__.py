"""Models that pip packages carry; `icl.models.packaged.catalogue` is their table."""
