"""Operations that XLA does not do well everywhere."""
