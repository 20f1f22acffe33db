const count = document.getElementById("count");
document.getElementById("more").addEventListener("click", () => { count.textContent = Number(count.textContent) + 1; });
document.documentElement.dataset.ready = "yes";
