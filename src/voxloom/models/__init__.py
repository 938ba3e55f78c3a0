"""Statistics on Datasets: in memory or lazy, they do not care where they run."""
