"""Who is poor, by how much, where, and how many, from predicted consumption."""
