"""RoI-GAN: pictures of which a region is made anew, with sliders (Korshunov 2020)."""
